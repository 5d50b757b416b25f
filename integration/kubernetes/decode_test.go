// Package kubernetes checks the Kubernetes examples: against the published API
// types, against each other, and with the relay that POSTHORN_BIN names. It is
// a module of its own so that Kubernetes' modules stay out of Posthorn's go.mod.
package kubernetes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// manifests are the objects of the files that a user applies together.
type manifests struct {
	secrets     []*corev1.Secret
	configMaps  []*corev1.ConfigMap
	services    []*corev1.Service
	deployments []*appsv1.Deployment
	budgets     []*policyv1.PodDisruptionBudget
	policies    []*networkingv1.NetworkPolicy
	monitors    []*monitoringv1.ServiceMonitor
	rules       []*monitoringv1.PrometheusRule
}

// decoder decodes as the API server does that is told to be strict: fields that
// the types do not have, and fields that come twice, are errors.
var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	add := runtime.NewSchemeBuilder(appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme)
	if err := add.AddToScheme(scheme); err != nil {
		panic(err)
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
}()

// decode returns the objects of the files, whose texts it is given by name, and
// all that is wrong with their documents.
func decode(files map[string]string) (*manifests, error) {
	m := &manifests{}
	var errs []error
	for name, text := range files {
		documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = m.add(document)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	return m, errors.Join(errs...)
}

func (m *manifests) add(document []byte) error {
	object, _, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return err
	}
	switch o := object.(type) {
	case *corev1.Secret:
		m.secrets = append(m.secrets, o)
	case *corev1.ConfigMap:
		m.configMaps = append(m.configMaps, o)
	case *corev1.Service:
		m.services = append(m.services, o)
	case *appsv1.Deployment:
		m.deployments = append(m.deployments, o)
	case *policyv1.PodDisruptionBudget:
		m.budgets = append(m.budgets, o)
	case *networkingv1.NetworkPolicy:
		m.policies = append(m.policies, o)
	case *monitoringv1.ServiceMonitor:
		m.monitors = append(m.monitors, o)
	case *monitoringv1.PrometheusRule:
		m.rules = append(m.rules, o)
	default:
		return fmt.Errorf("kind %s is not one that this test checks", object.GetObjectKind().GroupVersionKind().Kind)
	}
	return nil
}

func TestDecodingIsStrict(t *testing.T) {
	const service = `
apiVersion: v1
kind: Service
metadata: {name: posthorn}
spec:
  ports: [{name: metrics, port: 8080}]
`
	if _, err := decode(map[string]string{"good": service}); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new, want string }{
		{"a misspelt field", "port: 8080", "prot: 8080", `unknown field "spec.ports[0].prot"`},
		{"a field in other letters", "ports:", "Ports:", `unknown field "spec.Ports"`},
		{"a repeated field", "kind: Service\n", "kind: Service\nkind: Service\n", `key "kind" already set`},
		{"a repeated field within a field", "port: 8080", "port: 8080, port: 8081", `key "port" already set`},
		{"a value of another type", "8080", "eighty", "cannot unmarshal"},
		{"a kind that does not exist", "kind: Service", "kind: Servce", `no kind "Servce"`},
		{"a kind that is not checked", "kind: Service", "kind: Pod", `unknown field "spec.ports"`},
		{"a kind that is not checked, well-formed", service, "\napiVersion: v1\nkind: Pod\n", "kind Pod is not one that this test checks"},
		{"a version that does not exist", "apiVersion: v1", "apiVersion: v2", `no kind "Service" is registered for version "v2"`},
		{"no kind", "kind: Service", "", "'Kind' is missing"},
		{"no YAML", "spec:", "spec", "could not find expected ':'"},
		{"a second document that is wrong", service, service + "---" + strings.Replace(service, "ports", "prots", 1), `unknown field "spec.prots"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(service, test.old, test.new, 1)
			if text == service {
				t.Fatalf("%q is not in the document", test.old)
			}
			_, err := decode(map[string]string{"bad": text})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// one returns the only element of objects.
func one[T any](kind string, objects []T) (T, error) {
	if len(objects) != 1 {
		var none T
		return none, fmt.Errorf("%d documents of kind %s, want 1", len(objects), kind)
	}
	return objects[0], nil
}

// named returns the object of that name.
func named[T interface{ GetName() string }](kind string, objects []T, name string) (T, error) {
	i := slices.IndexFunc(objects, func(o T) bool { return o.GetName() == name })
	if i < 0 {
		var none T
		return none, fmt.Errorf("no %s is called %q", kind, name)
	}
	return objects[i], nil
}
