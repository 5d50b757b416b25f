package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

const folder = "../../examples/kubernetes"

// ways are the files that are applied together, by how the relay runs.
var ways = map[string][]string{
	"sidecar":     {"config.yaml", "sidecar.yaml", "monitoring.yaml"},
	"stand-alone": {"config.yaml", "deployment.yaml", "monitoring.yaml"},
}

// read returns the texts of a way's files by their names.
func read(t *testing.T, way string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range ways[way] {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return files
}

// alertGroups returns the groups of the alert rules for a Prometheus without the
// operator.
func alertGroups(t *testing.T) []monitoringv1.RuleGroup {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "..", "observability", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(text, &rules); err != nil {
		t.Fatal(err)
	}
	if len(rules.Groups) == 0 {
		t.Fatal("alerts.yaml has no groups")
	}
	return rules.Groups
}

func TestExamplesAreRight(t *testing.T) {
	alerts := alertGroups(t)
	for way := range ways {
		if err := check(read(t, way), way == "sidecar", alerts); err != nil {
			t.Errorf("%s: %v", way, err)
		}
	}
}

func TestEveryFileIsChecked(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(folder, "*.y*ml"))
	if err != nil {
		t.Fatal(err)
	}
	checked := slices.Concat(slices.Collect(maps.Values(ways))...)
	for _, path := range found {
		if !slices.Contains(checked, filepath.Base(path)) {
			t.Errorf("%s is in none of the ways that are checked", path)
		}
	}
}

// What the check holds, it holds: each mistake in the examples is found.
func TestMistakesAreFound(t *testing.T) {
	alerts := alertGroups(t)
	tests := []struct{ way, file, old, new, want string }{
		{"sidecar", "sidecar.yaml", "replicas: 2", "replicas: 1", "no relay waits to take over"},
		{"sidecar", "sidecar.yaml", "restartPolicy: Always", "", "is no sidecar"},
		{"sidecar", "sidecar.yaml", "image: posthorn/posthorn:", "image: other:", "the relay has no container"},
		{"sidecar", "sidecar.yaml", "matchLabels: {app.kubernetes.io/name: shop}", "matchLabels: {app.kubernetes.io/name: other}", "Deployment shop: selector"},
		{"sidecar", "sidecar.yaml", "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 8", "is not longer than stop_timeout"},
		{"sidecar", "sidecar.yaml", "targetPort: 8080", "targetPort: metrics", "targetPort metrics is not the number"},
		{"sidecar", "sidecar.yaml", "- {port: 8080}", "- {port: 8081}", "Prometheus is kept out"},
		{"stand-alone", "deployment.yaml", "runAsUser: 65532", "runAsUser: 0", "not the hardened one"},
		{"stand-alone", "deployment.yaml", "drop: [ALL]", "drop: [ALL], add: [NET_RAW]", "not the hardened one"},
		{"stand-alone", "deployment.yaml", "args: [run, --init]", "args: [demo]", `runs [] ["demo"]`},
		{"stand-alone", "deployment.yaml", "cpu: 100m, ", "", "requests no CPU or memory"},
		{"stand-alone", "deployment.yaml", "limits: {memory: 256Mi}", "limits: {}", "memory has no limit"},
		{"stand-alone", "deployment.yaml", "name: metrics, containerPort", "name: other, containerPort", "startupProbe asks port metrics, which it does not have"},
		{"stand-alone", "deployment.yaml", "path: /readyz", "path: /ready", "readinessProbe asks /ready, want /readyz"},
		{"stand-alone", "deployment.yaml", "livenessProbe:\n            httpGet: {path: /healthz, port: metrics}", "livenessProbe:\n            exec: {command: [posthorn, health]}", "no livenessProbe asks by HTTP"},
		{"stand-alone", "deployment.yaml", "medium: Memory, ", "", "/tmp is not in memory"},
		{"stand-alone", "deployment.yaml", "mountPath: /etc/posthorn", "mountPath: /etc/posthorn/posthorn.yaml, subPath: posthorn.yaml", "/etc/posthorn is not a ConfigMap"},
		{"stand-alone", "deployment.yaml", "configMap: {name: posthorn}", "configMap: {name: other}", `no ConfigMap is called "other"`},
		{"stand-alone", "deployment.yaml", "secretRef: {name: posthorn}", "secretRef: {name: other}", `no Secret is called "other"`},
		{"stand-alone", "deployment.yaml", "envFrom:", "env: [{name: DATABASE_URL, value: x}]\n          envFrom:", "env is not from a Secret"},
		{"stand-alone", "deployment.yaml", "maxUnavailable: 1", "maxUnavailable: 0", "not one pod at a time may go"},
		{"stand-alone", "deployment.yaml", "topologyKey: kubernetes.io/hostname\n          maxSkew: 1\n          whenUnsatisfiable: ScheduleAnyway\n          labelSelector:\n            matchLabels: {app.kubernetes.io/name: posthorn}", "topologyKey: kubernetes.io/hostname\n          maxSkew: 1\n          whenUnsatisfiable: ScheduleAnyway", "topologySpreadConstraints: selector"},
		{"stand-alone", "deployment.yaml", "kind: PodDisruptionBudget\nmetadata:\n  name: posthorn", "kind: PodDisruptionBudget\nmetadata:\n  name: budget\nspec: {}\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: posthorn", "2 documents of kind PodDisruptionBudget"},
		{"stand-alone", "deployment.yaml", "podSelector:\n    matchLabels: {app.kubernetes.io/name: posthorn}", "podSelector: {}", "NetworkPolicy posthorn: selector"},
		{"stand-alone", "deployment.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "policyTypes are"},
		{"stand-alone", "deployment.yaml", "- {port: 53, protocol: UDP}", "", "UDP to port 53 is kept in"},
		{"stand-alone", "deployment.yaml", "- {port: 5432}", "- {port: 5433}", "TCP to port 5432 is kept in"},
		{"stand-alone", "deployment.yaml", "- {port: 443}", "- {port: 444}", "TCP to port 443 is kept in"},
		{"stand-alone", "deployment.yaml", "selector: {app.kubernetes.io/name: posthorn}", "selector: {app.kubernetes.io/name: other}", "Service posthorn: selector"},
		{"stand-alone", "config.yaml", "ERP_SECRET:", "OTHER:", "${ERP_SECRET} is not set"},
		{"stand-alone", "config.yaml", "events:", "evnts:", "evnts"},
		{"stand-alone", "config.yaml", `":8080"`, `"127.0.0.1:8080"`, "http.listen is 127.0.0.1:8080"},
		{"stand-alone", "config.yaml", `":8080"`, `":9090"`, "http.listen is :9090, port metrics is 8080"},
		{"stand-alone", "config.yaml", "    endpoints:", "    stop_timeout: 20s\n    endpoints:", "15s is not longer than stop_timeout, 20s"},
		{"stand-alone", "config.yaml", `"REPLACE ME by what this prints: echo whsec_$(openssl rand -base64 32)"`, "short", "posthorn check warns"},
		{"stand-alone", "monitoring.yaml", "port: metrics", "port: http", `the Service has no port "http"`},
		{"stand-alone", "monitoring.yaml", "honorLabels: true", "honorLabels: false", "exported_endpoint"},
		{"stand-alone", "monitoring.yaml", "matchLabels: {app.kubernetes.io/name: posthorn}", "matchLabels: {app.kubernetes.io/name: other}", "ServiceMonitor posthorn: selector"},
		{"stand-alone", "monitoring.yaml", "for: 1m", "for: 2m", "not those of alerts.yaml"},
		{"stand-alone", "monitoring.yaml", "kind: PrometheusRule", "kind: PrometheusRules", `no kind "PrometheusRules"`},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			files := read(t, test.way)
			text := strings.Replace(files[test.file], test.old, test.new, 1)
			if text == files[test.file] {
				t.Fatalf("%q is not in %s", test.old, test.file)
			}
			files[test.file] = text
			err := check(files, test.way == "sidecar", alerts)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// configured is what matters of what the relay makes of a configuration.
type configured struct {
	listen      string
	stopTimeout time.Duration
}

// inspect has the relay check a configuration, which must not even be warned of,
// and returns what it makes of it.
func inspect(text string, environment []string) (*configured, error) {
	folder, err := os.MkdirTemp("", "posthorn-kubernetes-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	file := filepath.Join(folder, "posthorn.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var checked struct {
		OK       bool
		Warnings []struct{ Message string }
	}
	if err := ask(environment, &checked, "check", "--config", file, "--output", "json"); err != nil {
		return nil, err
	}
	if !checked.OK || len(checked.Warnings) > 0 {
		return nil, fmt.Errorf("posthorn check warns: %+v", checked)
	}
	var shown struct {
		HTTP        struct{ Listen string }
		StopTimeout string `json:"stop_timeout"`
	}
	if err := ask(environment, &shown, "config", "show", "--config", file); err != nil {
		return nil, err
	}
	timeout, err := time.ParseDuration(shown.StopTimeout)
	return &configured{shown.HTTP.Listen, timeout}, err
}

// ask runs the relay with nothing but that environment and reads the YAML or JSON
// that it prints.
func ask(environment []string, answer any, args ...string) error {
	binary := os.Getenv("POSTHORN_BIN")
	if binary == "" {
		return errors.New("POSTHORN_BIN names no binary: run make kubernetes")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be this process' own
	}
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("posthorn %s: %w: %s", args[0], err, &problems)
	}
	return yaml.Unmarshal(out, answer)
}
