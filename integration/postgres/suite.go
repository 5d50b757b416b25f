package postgres

import (
	"context"
	"flag"
	"fmt"
	"os"
)

// Suite is a package's tests: *testing.M is one.
type Suite interface{ Run() int }

// WithServer returns suite with a private server around it: its Run starts a
// server, which it stores in *server for the tests, runs suite and stops the
// server. A server that does not start or stop fails the run. It runs with
// fsync off, which survives a crash of the server, not one of the machine.
// The worker processes of go test -fuzz, which run one fuzz target and no
// tests, get no server.
//
// A package whose tests need a server says in its TestMain
//
//	goleak.VerifyTestMain(postgres.WithServer(m, &server))
//
// and each test asks server.Database for a database of its own.
func WithServer(suite Suite, server **Server) Suite {
	return suiteWithServer{suite, server}
}

type suiteWithServer struct {
	suite  Suite
	server **Server
}

func (s suiteWithServer) Run() int {
	if isFuzzWorker() {
		return s.suite.Run()
	}
	started, err := Start(context.Background(), Options{Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*s.server = started
	code := s.suite.Run()
	if err := started.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// isFuzzWorker reports whether go test -fuzz started this process as a worker.
func isFuzzWorker() bool {
	flag.Parse()
	worker := flag.Lookup("test.fuzzworker")
	return worker != nil && worker.Value.String() == "true"
}
