package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// sender posts one event.
type sender interface {
	// post returns once the answer is there, which must be 2xx. It does not
	// keep body.
	post(body []byte) error
}

// bareClient is an HTTP/1.1 client reduced to what a POST over one connection
// needs. It is not safe for concurrent use.
type bareClient struct {
	conn    net.Conn
	answer  *bufio.Reader
	head    []byte // of every request, up to the value of its Content-Length
	request []byte
}

func newBareClient(to string) (*bareClient, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", target.Host) //nolint:noctx // to a receiver on this machine
	if err != nil {
		return nil, fmt.Errorf("connect to the receiver: %w", err)
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: ", target.Path, target.Host)
	return &bareClient{conn: conn, answer: bufio.NewReader(conn), head: head}, nil
}

func (c *bareClient) post(body []byte) error {
	c.request = append(c.request[:0], c.head...)
	c.request = strconv.AppendInt(c.request, int64(len(body)), 10)
	c.request = append(c.request, "\r\n\r\n"...)
	c.request = append(c.request, body...)
	if _, err := c.conn.Write(c.request); err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	if err := c.read(); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

func (c *bareClient) read() error {
	line, err := c.answer.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 2")) {
		return fmt.Errorf("answered %q", bytes.TrimSpace(line))
	}
	length := 0
	for {
		line, err := c.answer.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	_, err = c.answer.Discard(length)
	return err
}

// client posts with net/http.
type client struct {
	http   *http.Client
	to     string
	signer *signer // nil: requests carry no signature
}

// newClient returns a client for so many concurrent requests, with a
// transport that keeps as many connections.
func newClient(to string, concurrency int) *client {
	return &client{to: to, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: concurrency, DisableCompression: true,
	}}}
}

// signed returns a client that shares the connections and signs. It is for one
// goroutine only.
func (c *client) signed(secret string) *client {
	return &client{http: c.http, to: c.to, signer: newSigner(secret)}
}

func (c *client) post(body []byte) error {
	req, err := http.NewRequest(http.MethodPost, c.to, bytes.NewReader(body)) //nolint:noctx // the process ends with its request
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.signer != nil {
		req.Header.Set("X-Signature", c.signer.sign(body))
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}
