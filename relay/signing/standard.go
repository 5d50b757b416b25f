package signing

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks.
const (
	standardID        = "webhook-id"
	standardTimestamp = "webhook-timestamp"
	standardSignature = "webhook-signature"
)

// standard is https://www.standardwebhooks.com, version v1.
type standard struct{ digest digest }

// newStandard refuses options that it would not use: everything is fixed.
func newStandard(o Options) (method, error) {
	for _, field := range []struct{ name, value string }{
		{"header", o.Header},
		{"algorithm", o.Algorithm},
		{"encoding", o.Encoding},
		{"content", o.Content},
		{"value", o.Value},
	} {
		if field.value != "" {
			return nil, fmt.Errorf("%s: must be empty, standard-webhooks fixes it", field.name)
		}
	}
	return standard{digest{
		algorithm: sha256Algorithm,
		encoding:  encodeBase64,
		content:   template{idPart, ".", timestampPart, ".", bodyPart},
	}}, nil
}

func (standard) headerNames() []string {
	return []string{standardID, standardTimestamp, standardSignature}
}

func (s standard) sign(m Message, keys []Key) ([]Header, error) {
	if err := checkID(m.ID); err != nil {
		return nil, err
	}
	if err := checkTime(m.Timestamp); err != nil {
		return nil, err
	}
	unix := m.Timestamp.Unix()
	value := make([]byte, 0, 128)
	for i, k := range keys {
		if i > 0 {
			value = append(value, ' ')
		}
		value = append(value, "v1,"...)
		value = s.digest.append(value, m.ID, unix, m.Body, k)
	}
	return []Header{
		{standardID, m.ID},
		{standardTimestamp, strconv.FormatInt(unix, 10)},
		{standardSignature, string(value)},
	}, nil
}

func (s standard) verify(h http.Header, body []byte, keys []Key, now time.Time) error {
	id, err := headerValue(h, standardID)
	if err != nil {
		return err
	}
	if checkID(id) != nil {
		return fmt.Errorf("%s: %w", standardID, ErrMalformed)
	}
	timestamp, err := headerValue(h, standardTimestamp)
	if err != nil {
		return err
	}
	unix, err := parseUnix(timestamp)
	if err != nil {
		return fmt.Errorf("%s: %w", standardTimestamp, err)
	}
	value, err := headerValue(h, standardSignature)
	if err != nil {
		return err
	}
	if err := checkFresh(unix, now); err != nil {
		return err
	}
	var signatures []string
	for entry := range strings.SplitSeq(value, " ") {
		// Other versions may stand beside v1.
		if signature, ok := strings.CutPrefix(entry, "v1,"); ok {
			signatures = append(signatures, signature)
		}
	}
	if !s.digest.matches(signatures, id, unix, body, keys) {
		return ErrMismatch
	}
	return nil
}
