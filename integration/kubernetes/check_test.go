package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The port of a container that answers health and metrics.
const metricsPort = "metrics"

// hardened is the security context of every container with the relay.
var hardened = &corev1.SecurityContext{
	RunAsNonRoot:             new(true),
	RunAsUser:                new(int64(65532)),
	RunAsGroup:               new(int64(65532)),
	AllowPrivilegeEscalation: new(false),
	ReadOnlyRootFilesystem:   new(true),
	Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
}

// findings collects what is wrong.
type findings []error

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

// wantf adds what is said unless it holds.
func (f *findings) wantf(holds bool, format string, args ...any) {
	if !holds {
		f.add(format, args...)
	}
}

// check returns all that is wrong with files that are applied together, to run
// the relay as a sidecar or by itself. alerts are the groups that the
// PrometheusRule must have.
func check(files map[string]string, sidecar bool, alerts []monitoringv1.RuleGroup) error {
	m, err := decode(files)
	if err != nil {
		return err
	}
	deployment, err := one("Deployment", m.deployments)
	if err != nil {
		return err
	}
	var f findings
	container, err := relayContainer(&deployment.Spec.Template.Spec, sidecar)
	if err != nil {
		return err
	}
	f.deployment(deployment)
	f.container(container)
	f.configuration(m, &deployment.Spec.Template.Spec, container)
	f.budget(m, deployment)
	f.network(m, deployment, container)
	f.monitoring(m, deployment, container, alerts)
	return errors.Join(f...)
}

// relayContainer returns the pod's container with the relay, which as a sidecar
// is an init container that stays.
func relayContainer(pod *corev1.PodSpec, sidecar bool) (*corev1.Container, error) {
	containers := pod.Containers
	if sidecar {
		containers = pod.InitContainers
	}
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return strings.HasPrefix(c.Image, "posthorn/posthorn:") })
	if i < 0 {
		return nil, errors.New("the relay has no container")
	}
	c := &containers[i]
	if always := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways; sidecar && !always {
		return nil, fmt.Errorf("container %s is no sidecar: its restartPolicy is not Always", c.Name)
	}
	return c, nil
}

func (f *findings) deployment(d *appsv1.Deployment) {
	f.wantf(d.Spec.Replicas != nil && *d.Spec.Replicas >= 2, "Deployment %s: no relay waits to take over", d.Name)
	f.selects("Deployment "+d.Name, d.Spec.Selector, d.Spec.Template.Labels)
	for _, spread := range d.Spec.Template.Spec.TopologySpreadConstraints {
		f.selects("Deployment "+d.Name+": topologySpreadConstraints", spread.LabelSelector, d.Spec.Template.Labels)
	}
}

// selects wants a selector that names labels and matches those that are given.
func (f *findings) selects(whose string, s *metav1.LabelSelector, has map[string]string) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		f.add("%s: %w", whose, err)
		return
	}
	f.wantf(!selector.Empty() && selector.Matches(labels.Set(has)), "%s: selector %q does not match %v", whose, selector, has)
}

func (f *findings) container(c *corev1.Container) {
	f.wantf(reflect.DeepEqual(c.SecurityContext, hardened), "container %s: security context is not the hardened one", c.Name)
	f.wantf(slices.Equal(c.Args, []string{"run", "--init"}) && len(c.Command) == 0, "container %s: runs %q %q", c.Name, c.Command, c.Args)
	r := c.Resources
	f.wantf(r.Requests.Cpu().Sign() > 0 && r.Requests.Memory().Sign() > 0, "container %s: requests no CPU or memory", c.Name)
	f.wantf(r.Limits.Memory().Cmp(*r.Requests.Memory()) >= 0, "container %s: memory has no limit above its request", c.Name)
	for _, probe := range []struct {
		name  string
		probe *corev1.Probe
		path  string
	}{
		{"startupProbe", c.StartupProbe, "/healthz"},
		{"livenessProbe", c.LivenessProbe, "/healthz"},
		{"readinessProbe", c.ReadinessProbe, "/readyz"},
	} {
		if probe.probe == nil || probe.probe.HTTPGet == nil {
			f.add("container %s: no %s asks by HTTP", c.Name, probe.name)
			continue
		}
		get := probe.probe.HTTPGet
		f.wantf(get.Path == probe.path, "container %s: %s asks %s, want %s", c.Name, probe.name, get.Path, probe.path)
		f.wantf(get.Port.StrVal == metricsPort && portOf(c, metricsPort) != 0, "container %s: %s asks port %s, which it does not have", c.Name, probe.name, &get.Port)
	}
}

// portOf returns the container's port of that name, 0 if there is none.
func portOf(c *corev1.Container, name string) int32 {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// configuration wants the relay to accept the configuration that it finds in its
// container, and the container to be what that says.
func (f *findings) configuration(m *manifests, pod *corev1.PodSpec, c *corev1.Container) {
	volumes := map[string]*corev1.Volume{} // by where they are mounted
	for _, mount := range c.VolumeMounts {
		for i := range pod.Volumes {
			if pod.Volumes[i].Name == mount.Name && mount.SubPath == "" {
				volumes[mount.MountPath] = &pod.Volumes[i]
			}
		}
	}
	tmp := volumes["/tmp"]
	f.wantf(tmp != nil && tmp.EmptyDir != nil && tmp.EmptyDir.Medium == corev1.StorageMediumMemory, "container %s: /tmp is not in memory", c.Name)
	etc := volumes["/etc/posthorn"]
	if etc == nil || etc.ConfigMap == nil {
		f.add("container %s: /etc/posthorn is not a ConfigMap as a whole", c.Name)
		return
	}
	config, err := named("ConfigMap", m.configMaps, etc.ConfigMap.Name)
	if err != nil {
		f.add("container %s: %w", c.Name, err)
		return
	}
	environment, err := environmentOf(m, c)
	if err != nil {
		f.add("container %s: %w", c.Name, err)
		return
	}
	relay, err := inspect(config.Data["posthorn.yaml"], environment)
	if err != nil {
		f.add("posthorn.yaml: %w", err)
		return
	}
	port := portOf(c, metricsPort)
	f.wantf(relay.listen == fmt.Sprintf(":%d", port), "posthorn.yaml: http.listen is %s, port %s is %d", relay.listen, metricsPort, port)
	grace := time.Duration(*cmp.Or(pod.TerminationGracePeriodSeconds, new(int64))) * time.Second
	f.wantf(grace > relay.stopTimeout, "terminationGracePeriodSeconds: %s is not longer than stop_timeout, %s", grace, relay.stopTimeout)
}

// environmentOf returns the container's environment, all of which is in Secrets.
func environmentOf(m *manifests, c *corev1.Container) ([]string, error) {
	if len(c.Env) > 0 {
		return nil, errors.New("env is not from a Secret as a whole")
	}
	var environment []string
	for _, from := range c.EnvFrom {
		if from.SecretRef == nil {
			return nil, errors.New("envFrom names something else than a Secret")
		}
		secret, err := named("Secret", m.secrets, from.SecretRef.Name)
		if err != nil {
			return nil, err
		}
		for name, value := range secret.StringData {
			environment = append(environment, name+"="+value)
		}
	}
	return environment, nil
}

func (f *findings) budget(m *manifests, d *appsv1.Deployment) {
	budget, err := one("PodDisruptionBudget", m.budgets)
	if err != nil {
		f.add("%w", err)
		return
	}
	f.selects("PodDisruptionBudget "+budget.Name, budget.Spec.Selector, d.Spec.Template.Labels)
	f.wantf(budget.Spec.MaxUnavailable != nil && *budget.Spec.MaxUnavailable == intstr.FromInt32(1), "PodDisruptionBudget %s: not one pod at a time may go", budget.Name)
}

// network wants the policy to let through what the relay needs. It names ports by
// number: by name, network plugins do not find those of sidecars.
func (f *findings) network(m *manifests, d *appsv1.Deployment, c *corev1.Container) {
	policy, err := one("NetworkPolicy", m.policies)
	if err != nil {
		f.add("%w", err)
		return
	}
	whose := "NetworkPolicy " + policy.Name
	f.selects(whose, &policy.Spec.PodSelector, d.Spec.Template.Labels)
	both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	f.wantf(slices.Equal(policy.Spec.PolicyTypes, both), "%s: policyTypes are %v, want %v", whose, policy.Spec.PolicyTypes, both)
	var in, out []networkingv1.NetworkPolicyPort
	for _, rule := range policy.Spec.Ingress {
		in = append(in, rule.Ports...)
	}
	for _, rule := range policy.Spec.Egress {
		f.wantf(len(rule.To) > 0, "%s: an egress rule is for everywhere", whose)
		out = append(out, rule.Ports...)
	}
	f.wantf(passes(in, corev1.ProtocolTCP, portOf(c, metricsPort)), "%s: Prometheus is kept out", whose)
	for _, need := range []struct {
		protocol corev1.Protocol
		port     int32
	}{{corev1.ProtocolUDP, 53}, {corev1.ProtocolTCP, 53}, {corev1.ProtocolTCP, 5432}, {corev1.ProtocolTCP, 443}} {
		f.wantf(passes(out, need.protocol, need.port), "%s: %s to port %d is kept in", whose, need.protocol, need.port)
	}
}

func passes(ports []networkingv1.NetworkPolicyPort, protocol corev1.Protocol, port int32) bool {
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return p.Port != nil && *p.Port == intstr.FromInt32(port) && *cmp.Or(p.Protocol, new(corev1.ProtocolTCP)) == protocol
	})
}

// monitoring wants Prometheus to find every pod by way of the Service.
func (f *findings) monitoring(m *manifests, d *appsv1.Deployment, c *corev1.Container, alerts []monitoringv1.RuleGroup) {
	service, err := one("Service", m.services)
	if err != nil {
		f.add("%w", err)
		return
	}
	whose := "Service " + service.Name
	f.selects(whose, &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, d.Spec.Template.Labels)
	names := map[string]bool{}
	for _, port := range service.Spec.Ports {
		names[port.Name] = true
		f.wantf(port.TargetPort == intstr.FromInt32(portOf(c, metricsPort)), "%s: targetPort %s is not the number of the container's port %s", whose, &port.TargetPort, metricsPort)
	}

	monitor, err := one("ServiceMonitor", m.monitors)
	if err != nil {
		f.add("%w", err)
		return
	}
	whose = "ServiceMonitor " + monitor.Name
	f.selects(whose, &monitor.Spec.Selector, service.Labels)
	f.wantf(len(monitor.Spec.Endpoints) == 1, "%s: %d endpoints, want 1", whose, len(monitor.Spec.Endpoints))
	for _, e := range monitor.Spec.Endpoints {
		f.wantf(names[e.Port], "%s: the Service has no port %q", whose, e.Port)
		f.wantf(e.HonorLabels, "%s: the relay's label endpoint becomes exported_endpoint", whose)
	}

	rule, err := one("PrometheusRule", m.rules)
	if err != nil {
		f.add("%w", err)
		return
	}
	f.wantf(reflect.DeepEqual(rule.Spec.Groups, alerts), "PrometheusRule %s: its groups are not those of alerts.yaml", rule.Name)
}
