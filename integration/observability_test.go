package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const observedConfig = `
plugins: {marker: %s}
transforms: [{match: ["*"], plugin: marker}]
endpoints:
  - {name: well, url: "${RECEIVER}/well", events: ["*"], secret: "${SECRET}"}
  - {name: ill, url: "${RECEIVER}/ill", events: ["*"], secret: "${SECRET}", retry: {schedule: []}}
`

// Dashboard and alerts name metrics and labels that the relay has.
func TestDashboardAndAlertsNameWhatIsExported(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/well", "/ill")
	rcv.endpoints["/ill"].answers(func(*request) int { return http.StatusInternalServerError })
	r := startRelay(t, db, rcv, fmt.Sprintf(observedConfig, pluginOf("marker", nil)))
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: 20}, 20)
	rcv.endpoints["/well"].waitDelivered(20, time.Minute)
	r.signal(syscall.SIGHUP)
	exported := map[string]map[string]bool{} // labels by metric
	eventually(t, time.Minute, func() error {
		clear(exported)
		for series := range r.metrics() {
			name, labels, _ := strings.Cut(series, "{")
			if exported[name] == nil {
				exported[name] = map[string]bool{"job": true, "instance": true} // which Prometheus adds
			}
			for _, label := range labelName.FindAllStringSubmatch(labels, -1) {
				exported[name][label[1]] = true
			}
		}
		for _, late := range []string{"posthorn_config_reloads_total", "posthorn_slot_lag_bytes"} {
			if exported[late] == nil {
				return fmt.Errorf("%s is not exported yet", late)
			}
		}
		return nil
	})
	for file, expressions := range map[string][]string{"dashboard.json": dashboardExpressions(t), "alerts.yaml": alertExpressions(t)} {
		named := 0
		for _, expression := range expressions {
			for _, found := range metricName.FindAllStringSubmatch(expression, -1) {
				named++
				labels, ok := exported[found[1]]
				if !ok {
					t.Errorf("%s: %s: the relay has no metric %s", file, expression, found[1])
				}
				for _, label := range labelName.FindAllStringSubmatch(found[2], -1) {
					if ok && !labels[label[1]] {
						t.Errorf("%s: %s: %s has no label %s", file, expression, found[1], label[1])
					}
				}
			}
		}
		if named == 0 {
			t.Errorf("%s names no metric", file)
		}
		t.Logf("FIGURE %s: %d expressions name metrics %d times, all of them exported", file, len(expressions), named)
	}
}

var (
	metricName = regexp.MustCompile(`\b((?:posthorn|process)_\w+)(?:\{([^}]*)\})?`)
	labelName  = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
)

func observability(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", "observability", file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func dashboardExpressions(t *testing.T) (expressions []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	if err := json.Unmarshal(observability(t, "dashboard.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		if len(panel.Targets) == 0 {
			t.Errorf("panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	for _, variable := range dashboard.Templating.List {
		expressions = append(expressions, variable.Query)
	}
	return expressions
}

func alertExpressions(t *testing.T) (expressions []string) {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(observability(t, "alerts.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			expressions = append(expressions, rule.Expr)
		}
	}
	return expressions
}
