package ledger

import "time"

// StatsQuery says of which time figures are wanted.
type StatsQuery struct {
	From, Until time.Time
	Step        time.Duration // of a point; at least 10s, and a minute for one endpoint
	Endpoint    string        // name or id; "" for all together
	Scope       string        // the tenant of the endpoints; "" for all
}

// Point is what happened in one step.
type Point struct {
	At             time.Time // its begin
	Events         int64     // read from the stream; 0 of one endpoint
	Delivered      int64
	Failed         int64 // deliveries that failed for good
	Attempts       int64
	FailedAttempts int64
	P50, P95, P99  time.Duration // from commit to delivery; 0 without any, and of one endpoint
}
