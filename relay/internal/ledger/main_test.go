package ledger

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/integration/postgres"
)

var server *postgres.Server

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgres.WithServer(m, &server)) }
