package host

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
)

// serveForeign is a plugin without go-plugin, as one in another language is.
func serveForeign(auth tls.ClientAuthType) {
	if err := foreign(auth); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func foreign(auth tls.ClientAuthType) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	relay := x509.NewCertPool()
	relay.AppendCertsFromPEM([]byte(os.Getenv("PLUGIN_CLIENT_CERT")))
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		ClientAuth:   auth, ClientCAs: relay, MinVersion: tls.VersionTLS13,
	})))
	state := health.NewServer()
	state.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, state)
	pluginv1.RegisterTransformerServer(server, foreignTransformer{})

	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	fmt.Printf("1|1|unix|%s|grpc|%s\n", path, base64.RawStdEncoding.EncodeToString(cert))
	// It needs a moment to get ready.
	time.AfterFunc(50*time.Millisecond, func() { state.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING) })
	return server.Serve(listener)
}

type foreignTransformer struct {
	pluginv1.UnimplementedTransformerServer
}

func (foreignTransformer) Transform(_ context.Context, request *pluginv1.TransformRequest) (*pluginv1.TransformResponse, error) {
	fmt.Println("at work")
	response := &pluginv1.TransformResponse{}
	for range request.GetEvents() {
		payload := fmt.Appendf(nil, `{"pid": %d}`, os.Getpid())
		response.Results = append(response.Results, &pluginv1.Result{Outcome: &pluginv1.Result_Change{Change: &pluginv1.Change{Payload: payload}}})
	}
	return response, nil
}
