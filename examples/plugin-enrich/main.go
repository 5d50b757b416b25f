// Command plugin-enrich is a plugin of Posthorn. It looks up the employee whom an
// event's payload names by its employeeId, in a directory over HTTP, and adds
// what it finds as "employee".
package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/posthorn/posthorn/plugins"
)

func main() {
	slog.SetDefault(plugins.Logger())
	url := os.Getenv("DIRECTORY_URL")
	if url == "" {
		slog.Error("DIRECTORY_URL is not set: give it in the plugin's env")
		os.Exit(1)
	}
	plugins.Serve(&enricher{directory: newDirectory(url, os.Getenv("DIRECTORY_TOKEN"), 10_000, 10*time.Minute)})
}
