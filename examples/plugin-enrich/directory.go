package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	lookupTimeout = 5 * time.Second // one request, whoever waits for it
	maxAnswer     = 64 << 10        // bytes
	connections   = 16              // at once
)

var errNotFound = errors.New("the directory knows no such employee")

// directory answers from the service at a URL, and from memory what it has
// answered before. It is safe for concurrent use.
type directory struct {
	url, token string
	client     *http.Client
	lookups    singleflight.Group

	mu      sync.Mutex
	answers map[string]answer
	limit   int           // answers that are kept
	keep    time.Duration // how long
}

type answer struct {
	employee json.RawMessage
	expires  time.Time
}

// newDirectory returns the directory at a URL. It keeps at most limit answers,
// for the time given. With an empty token it sends none.
func newDirectory(url, token string, limit int, keep time.Duration) *directory {
	return &directory{
		url:   strings.TrimSuffix(url, "/"),
		token: token,
		client: &http.Client{
			Timeout: lookupTimeout,
			Transport: &http.Transport{
				MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute,
			},
		},
		answers: map[string]answer{},
		limit:   limit,
		keep:    keep,
	}
}

// employee returns an employee as a JSON object, and errNotFound for one that
// the service does not know. Those who ask for the same one at the same time
// share a request. It goes on when ctx ends, for those who ask again.
func (d *directory) employee(ctx context.Context, id string) (json.RawMessage, error) {
	if employee, ok := d.kept(id); ok {
		return employee, nil
	}
	done := d.lookups.DoChan(id, func() (any, error) {
		employee, err := d.get(context.WithoutCancel(ctx), id)
		if err == nil {
			d.put(id, employee)
		}
		return employee, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-done:
		return result.Val.(json.RawMessage), result.Err
	}
}

// get asks the service. Its errors name neither the URL nor the employee.
func (d *directory) get(ctx context.Context, id string) (json.RawMessage, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/employees?id="+url.QueryEscape(id), nil)
	if err != nil {
		return nil, errors.New("DIRECTORY_URL is no URL")
	}
	if d.token != "" {
		request.Header.Set("Authorization", "Bearer "+d.token)
	}
	response, err := d.client.Do(request)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return nil, fmt.Errorf("ask the directory: %w", err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotFound:
		return nil, errNotFound
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the directory answered %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the directory's answer: %w", err)
	}
	var object map[string]json.RawMessage
	if len(body) > maxAnswer || json.Unmarshal(body, &object) != nil || object == nil {
		return nil, fmt.Errorf("the directory's answer is no JSON object of at most %d bytes", maxAnswer)
	}
	return body, nil
}

// kept returns an answer that is there and has not expired.
func (d *directory) kept(id string) (json.RawMessage, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.answers[id]
	return a.employee, ok && time.Now().Before(a.expires)
}

// put keeps an answer. If there are too many another one goes, whichever.
func (d *directory) put(id string, employee json.RawMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, there := d.answers[id]; !there && len(d.answers) >= d.limit {
		for other := range d.answers {
			delete(d.answers, other)
			break
		}
	}
	d.answers[id] = answer{employee: employee, expires: time.Now().Add(d.keep)}
}
