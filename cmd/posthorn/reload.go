package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// lookEvery is how often the configuration's file is looked at.
const lookEvery = 2 * time.Second

// maxLook bounds what is read of the file, in bytes. The configuration's own
// bound is far below.
const maxLook = 16 << 20

// watchedFile is the configuration's file and which of its contents are known.
// It is read as a whole each time: behind a symbolic link, as Kubernetes mounts
// configuration, nothing else tells a change.
type watchedFile struct {
	path   string // "" for none: the environment alone is the configuration
	loaded string // the content that was loaded
	last   string // the content that the last look found
}

// watchFile returns the file at path as it is now.
func watchFile(path string) *watchedFile {
	f := &watchedFile{path: path}
	f.take()
	return f
}

// watch calls load at each hangup, and when the file's content has changed. It
// returns when ctx ends.
func (f *watchedFile) watch(ctx context.Context, hangups <-chan os.Signal, looks <-chan time.Time, load func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			f.take()
			load()
		case <-looks:
			if f.look() {
				load()
			}
		}
	}
}

// take takes the file's content as the one that is loaded now.
func (f *watchedFile) take() {
	f.loaded = f.content()
	f.last = f.loaded
}

// look reports whether the file is to be loaded: it holds something else than
// what was loaded. It says so once for each content, and only when the look
// before found the same, so that nothing is loaded while it is being written.
func (f *watchedFile) look() bool {
	now := f.content()
	settled := now == f.last
	f.last = now
	if !settled || now == f.loaded {
		return false
	}
	f.loaded = now
	return true
}

// content returns what stands for the file's content, or for why it cannot be
// read.
func (f *watchedFile) content() string {
	if f.path == "" {
		return ""
	}
	sum, err := sumOf(f.path)
	if err != nil {
		return err.Error()
	}
	return sum
}

func sumOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // a pipe would block
		return "", errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(file, maxLook)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}
