// Command vulncheck says in one line if the database of known vulnerabilities,
// which make vulncheck asks, can be read from here, and of when it is. Its exit
// code is 1 when it cannot: then nothing was checked.
package main

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	official = "https://vuln.go.dev"
	patience = 30 * time.Second
	maxIndex = 1 << 20 // bytes
)

func main() {
	at := flag.String("db", cmp.Or(os.Getenv("GOVULNDB"), official), "the database's `URL`: http, https or file")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	modified, err := modifiedAt(ctx, *at)
	cancel()
	if err != nil {
		fmt.Fprintf(os.Stderr, "The database of vulnerabilities cannot be read: %v. GOVULNDB names a copy: file:///srv/vulndb, for example.\n", err)
		os.Exit(1)
	}
	fmt.Printf("The database of vulnerabilities at %s is of %s.\n", *at, modified.Format(time.DateOnly))
}

// modifiedAt returns when the database was changed last.
func modifiedAt(ctx context.Context, db string) (time.Time, error) {
	u, err := url.Parse(db)
	if err != nil {
		return time.Time{}, err
	}
	var index io.ReadCloser
	switch u.Scheme {
	case "file":
		index, err = os.Open(filepath.Join(filepath.FromSlash(u.Path), "index", "db.json"))
	case "http", "https":
		index, err = fetch(ctx, u.JoinPath("index", "db.json.gz"))
	default:
		err = errors.New("it is no http, https or file URL")
	}
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = index.Close() }()
	var state struct{ Modified time.Time }
	if err := json.NewDecoder(io.LimitReader(index, maxIndex)).Decode(&state); err != nil || state.Modified.IsZero() {
		return time.Time{}, fmt.Errorf("what is at %s is none", db)
	}
	return state.Modified, nil
}

// zipped is an answer that is read unzipped.
type zipped struct {
	*gzip.Reader
	answer io.Closer
}

func (z zipped) Close() error { return z.answer.Close() }

func fetch(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil) //nolint:gosec // who runs the check says where the database is
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	var z *gzip.Reader
	if res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", u, res.Status)
	} else {
		z, err = gzip.NewReader(res.Body)
	}
	if err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return zipped{z, res.Body}, nil
}
