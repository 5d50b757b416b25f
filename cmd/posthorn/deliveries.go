package main

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

func newDeliveriesCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deliveries",
		Short: "List, show and retry deliveries",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("deliveries needs one of its commands: list, show or retry")
		},
	}
	cmd.AddCommand(newDeliveriesListCommand(g), newDeliveriesShowCommand(g), newDeliveriesRetryCommand(g))
	g.serverFlags(cmd)
	return cmd
}

// maxListed bounds a list, which is held in memory.
const maxListed = 10_000

func newDeliveriesListCommand(g *globals) *cobra.Command {
	var f relay.DeliveryFilter
	var eventID, from, until string
	var states []string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List deliveries, those of the newest events first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				state := relay.DeliveryState(s)
				if !slices.Contains(relay.DeliveryStates, state) {
					return usagef("--state is one of %v, not %q", relay.DeliveryStates, s)
				}
				f.States = append(f.States, state)
			}
			switch {
			case f.Limit < 1 || f.Limit > maxListed:
				return usagef("--limit is 1 to %d, not %d", maxListed, f.Limit)
			case f.Since < 0:
				return usagef("--since is a positive duration such as 1h")
			}
			if eventID != "" {
				var err error
				if f.Event, err = uuid.Parse(eventID); err != nil {
					return usagef("--event is the event's UUID, not %q", eventID)
				}
			}
			var err error
			if f.From, err = parseMoment("--from", from, time.Now()); err != nil {
				return err
			}
			if f.Until, err = parseMoment("--until", until, time.Now()); err != nil {
				return err
			}
			return g.withOperator(func(o operator) error {
				list, err := o.List(cmd.Context(), f)
				if err != nil {
					return err
				}
				return g.printDeliveries(list, f.Limit)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&states, "state", nil, "only in this `state`: pending, sending, delivered, failed or skipped; may be repeated")
	flags.StringVar(&f.Endpoint, "endpoint", "", "only to this endpoint, by `name` or id")
	flags.StringVar(&f.Tenant, "tenant", "", "only of this `tenant`")
	flags.StringVar(&f.Type, "type", "", "only of this event `type`")
	flags.StringVar(&eventID, "event", "", "only of the event with this `UUID`")
	flags.DurationVar(&f.Since, "since", 0, "only of events committed within this `duration`, such as 1h")
	flags.StringVar(&from, "from", "", "only of events committed at this `time` or later: 2026-01-02T15:04:05Z, or so long ago: 24h")
	flags.StringVar(&until, "until", "", "only of events committed before this `time`")
	flags.IntVar(&f.Limit, "limit", 50, "at most so many")
	return cmd
}

func (g *globals) printDeliveries(list []relay.Delivery, limit int) error {
	if g.Output == "json" {
		if list == nil {
			list = []relay.Delivery{} // an array, not null
		}
		return g.printJSON(list)
	}
	if len(list) == 0 {
		g.printf("no deliveries\n")
		return nil
	}
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tSTATE\tENDPOINT\tTYPE\tCOMMITTED\tTRIES\tSTATUS\tNEXT OR ERROR")
	for i := range list {
		d := &list[i]
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", d.ID, d.State, shown(d.Endpoint), shown(d.Type), clock(d.CreatedAt),
			d.Attempts, statusText(d.Status), outlook(d))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(list) == limit {
		g.printf("(the first %d: --limit shows more)\n", limit)
	}
	return nil
}

// statusText returns an HTTP status for people; there is none without an answer.
func statusText(status int) string {
	if status == 0 {
		return "-"
	}
	return fmt.Sprint(status)
}

// outlook says in one line what comes next, or what went wrong.
func outlook(d *relay.Delivery) string {
	var parts []string
	switch {
	case d.DueAt != nil:
		parts = append(parts, "due "+clock(*d.DueAt))
	case d.State == "pending":
		parts = append(parts, "waits for an earlier event of its key")
	}
	for _, text := range []string{d.Reason, d.Error} {
		if text != "" {
			parts = append(parts, shown(text))
		}
	}
	return strings.Join(parts, "; ")
}

// outlookName is what a delivery's outlook is called.
func outlookName(d *relay.Delivery) string {
	switch d.State {
	case "pending", "sending":
		return "next"
	case "failed":
		return "error"
	}
	return "reason"
}

func newDeliveriesRetryCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "retry ID...",
		Short: "Make one more attempt of deliveries now",
		Long: `Make one more attempt of each delivery: of one that is final, in whatever state,
or of one that is pending, now instead of later. It is sent with the same id and
the same body; where the ledger has no request, because a transform failed or it
was not kept (ledger.bodies), the event is transformed and rendered again. A
running relay makes the attempt within a second or two. posthorn replay start
--state failed does it for many.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids := make([]uuid.UUID, len(args))
			for i, arg := range args {
				var err error
				if ids[i], err = uuid.Parse(arg); err != nil {
					return usagef("%q is no delivery id", arg)
				}
			}
			return g.withOperator(func(o operator) error {
				return g.retry(cmd, o, ids)
			})
		},
	}
}

// retry goes on after an error, and returns all of them.
func (g *globals) retry(cmd *cobra.Command, o operator, ids []uuid.UUID) error {
	type result struct {
		ID    uuid.UUID `json:"id"`
		OK    bool      `json:"ok"`
		Again bool      `json:"rendered_again"`
		Error string    `json:"error,omitempty"`
	}
	results := []result{}
	var failed []error
	for _, id := range ids {
		again, err := o.Retry(cmd.Context(), id, actor())
		r := result{ID: id, OK: err == nil, Again: again}
		switch {
		case err != nil:
			r.Error = err.Error()
			failed = append(failed, err)
		case g.Output == "text" && again:
			g.printf("%s: due now; the ledger has no request of it: it is transformed and rendered again\n", id)
		case g.Output == "text":
			g.printf("%s: due now\n", id)
		}
		results = append(results, r)
	}
	if g.Output == "json" {
		if err := g.printJSON(results); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// actor is who acts, for the audit.
func actor() relay.Actor {
	if u, err := user.Current(); err == nil {
		return relay.Actor{Name: "cli:" + u.Username}
	}
	return relay.Actor{Name: "cli"}
}

func newDeliveriesShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a delivery with its attempts",
		Long: `Show a delivery with its attempts and, where the ledger kept it, its request.
Signatures and timestamps are made at each attempt and are not stored.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usagef("%q is no delivery id", args[0])
			}
			return g.withOperator(func(o operator) error {
				d, err := o.Show(cmd.Context(), id)
				if err != nil {
					return err
				}
				if g.Output == "json" {
					return g.printJSON(detailJSON(d))
				}
				return g.printDetail(d)
			})
		},
	}
}

// excerptBytes is how much of a body is printed for people.
const excerptBytes = 2 << 10

func (g *globals) printDetail(d *relay.DeliveryDetail) error {
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, shown(value))
		}
	}
	row("delivery", d.ID.String())
	row("state", string(d.State))
	row(outlookName(&d.Delivery), outlook(&d.Delivery))
	row("endpoint", d.Endpoint+" ("+d.EndpointID.String()+")")
	row("event", d.Event.String())
	row("type", d.Type)
	row("tenant", d.Tenant)
	row("key", d.Key)
	row("committed", clock(d.CreatedAt))
	if d.FinishedAt != nil {
		row("finished", clock(*d.FinishedAt)+", "+short(d.FinishedAt.Sub(d.CreatedAt))+" after the commit")
	}
	row("tries", fmt.Sprint(d.Attempts))
	if d.Status != 0 {
		row("status", fmt.Sprint(d.Status))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(d.Tries) > 0 {
		g.printf("\n")
		_, _ = fmt.Fprintln(w, "TRY\tAT\tOUTCOME\tSTATUS\tDNS\tCONNECT\tTLS\tFIRST BYTE\tTOTAL\tERROR")
		for _, a := range d.Tries {
			_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Number, clock(a.StartedAt), a.Outcome, statusText(a.Status),
				short(a.DNS), short(a.Connect), short(a.TLS), short(a.FirstByte), short(a.Total), shown(a.Error))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if last := d.Tries[len(d.Tries)-1]; len(last.Response) > 0 {
			g.printf("\nanswer to try %d:\n%s\n", last.Number, excerpt(last.Response))
		}
	}
	switch {
	case d.Request != nil:
		g.printf("\nrequest, without what is made at each attempt:\n%s\n", d.Request.Method)
		for _, h := range d.Request.Headers {
			g.printf("%s: %s\n", printable(h[0]), printable(h[1]))
		}
		g.printf("\n%s\n", excerpt(body(d)))
	case d.Payload != nil:
		g.printf("\npayload (the request was never rendered):\n%s\n", excerpt(d.Payload))
	case g.remote():
		g.printf("\nrequest and payload were not kept (ledger.bodies), or the token's role may not see them\n")
	default:
		g.printf("\nrequest and payload were not kept (ledger.bodies)\n")
	}
	return nil
}

// body returns the body that is sent.
func body(d *relay.DeliveryDetail) []byte {
	if d.Request.Body == nil {
		return d.Payload
	}
	return d.Request.Body
}

func excerpt(b []byte) string {
	if len(b) <= excerptBytes {
		return printable(string(b))
	}
	return printable(string(b[:excerptBytes])) + fmt.Sprintf("… (%d bytes; --output json has all)", len(b))
}

// detailJSON returns d as it is printed for scripts. Bodies are text, which
// has U+FFFD in place of bytes that are not UTF-8.
func detailJSON(d *relay.DeliveryDetail) any {
	type attempt struct {
		Number      int       `json:"number"`
		StartedAt   time.Time `json:"started_at"`
		Outcome     string    `json:"outcome"`
		Status      int       `json:"status,omitempty"`
		Error       string    `json:"error,omitempty"`
		DNSus       int64     `json:"dns_us"`
		ConnectUS   int64     `json:"connect_us"`
		TLSus       int64     `json:"tls_us"`
		FirstByteUS int64     `json:"first_byte_us"`
		TotalUS     int64     `json:"total_us"`
		Response    string    `json:"response,omitempty"`
	}
	type request struct {
		Method  string      `json:"method"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	}
	out := struct {
		relay.Delivery
		Request *request  `json:"request,omitempty"`
		Payload string    `json:"payload,omitempty"`
		Tries   []attempt `json:"tries"`
	}{Delivery: d.Delivery, Payload: string(d.Payload), Tries: []attempt{}}
	if d.Request != nil {
		out.Request = &request{d.Request.Method, d.Request.Headers, string(body(d))}
	}
	for _, a := range d.Tries {
		out.Tries = append(out.Tries, attempt{
			a.Number, a.StartedAt, a.Outcome, a.Status, a.Error, a.DNS.Microseconds(), a.Connect.Microseconds(),
			a.TLS.Microseconds(), a.FirstByte.Microseconds(), a.Total.Microseconds(), string(a.Response),
		})
	}
	return out
}
