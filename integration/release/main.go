// Command release checks what GoReleaser made of the working tree, by what a
// user would find in it: the archives and their binaries, the checksums and
// the lists of modules. It runs the binary that is for its own platform.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := command(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	var (
		dist    string
		version string
		seconds int64
	)
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&dist, "dist", "dist", "GoReleaser's `folder`")
	flags.StringVar(&version, "version", "", "the `version` that must be stamped into the binaries")
	flags.Int64Var(&seconds, "time", 0, "the commit's time in `seconds` since 1970, which all files in the archives must have")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if version == "" || seconds == 0 || flags.NArg() > 0 {
		return errors.New("give -version and -time, and no arguments")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	return check(ctx, dist, version, time.Unix(seconds, 0))
}

var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// check reports all that is wrong with dist. It prints a line for each archive
// that is right.
func check(ctx context.Context, dist, version string, commit time.Time) error {
	root, err := os.OpenRoot(dist)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()

	var (
		published []string
		problems  []error
	)
	for _, platform := range platforms {
		name := fmt.Sprintf("posthorn_%s_%s", strings.TrimPrefix(version, "v"), strings.ReplaceAll(platform, "/", "_"))
		published = append(published, name+".tar.gz", name+".cdx.json")
		if err := checkPlatform(ctx, root, name, platform, version, commit); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", platform, err))
		}
	}
	if err := checkSums(root, published); err != nil {
		problems = append(problems, fmt.Errorf("%s: %w", sumsFile, err))
	}
	return errors.Join(problems...)
}

func checkPlatform(ctx context.Context, root *os.Root, name, platform, version string, commit time.Time) error {
	archive, err := root.ReadFile(name + ".tar.gz")
	if err != nil {
		return err
	}
	binary, err := unpack(archive, name, commit)
	if err != nil {
		return err
	}
	modules, err := checkBinary(binary, platform)
	if err != nil {
		return err
	}
	document, err := root.ReadFile(name + ".cdx.json")
	if err != nil {
		return err
	}
	if err := checkSBOM(document, binary, version, modules); err != nil {
		return err
	}
	fmt.Printf("%s.tar.gz: %.1f MiB, binary %.1f MiB, %d modules in its SBOM\n",
		name, float64(len(archive))/(1<<20), float64(len(binary))/(1<<20), len(modules))
	if platform != runtime.GOOS+"/"+runtime.GOARCH {
		return nil
	}
	return checkVersion(ctx, binary, version)
}
