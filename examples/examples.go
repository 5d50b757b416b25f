// Package examples holds a relay configuration for the webhooks of each of four
// products. The demo runs all of them in one relay.
package examples

import "embed"

// Configurations holds the products' configurations, by the paths that they
// have below this folder, such as byro/posthorn.yaml.
//
//go:embed byro/posthorn.yaml danbyte/posthorn.toml bindbee/posthorn.json offly/posthorn.yaml
var Configurations embed.FS
