package config

import "testing"

func TestTemplatesAreTriedWithoutTheURLsCredentials(t *testing.T) {
	for url, want := range map[URL]string{
		"https://user:hunter2@erp.example/hooks?a=1": "https://erp.example/hooks?a=1",
		"https://user:hunter2@erp.example:port/":     "",
	} {
		if got := newSample(&Endpoint{URL: url}, sampleType, "{}").view.Endpoint.URL; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
