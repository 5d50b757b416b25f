package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// chart is panels above each other that share one x axis.
type chart struct {
	title, x string               // the x axis' label
	tick     func(float64) string // how a value of x is written
	panels   []panel
}

// panel is one y axis, which begins at 0, with one line.
type panel struct {
	y      string // the axis' label
	points []dot
}

// dot is a median with its range, at an x above 0: x axes are logarithmic.
type dot struct {
	x float64
	y spread
}

// bar is how far a goal was reached: 1 is just, more is better.
type bar struct {
	title, text string
	reached     float64
	met         bool
}

// The charts bring their own background, so that they read in light and dark.
const (
	ink, faint, paper   = "#1f2933", "#5b6770", "#fbfaf7"
	lines, rule         = "#dcdad3", "#2c6fb3"
	metFill, missedFill = "#2c6fb3", "#c2571a"

	chartWidth         = 720.0
	plotLeft, plotEdge = 84.0, 36.0 // free on the left and on the right
	plotTop            = 76.0       // under the title
	panelHeight        = 190.0
	panelGap           = 52.0
	axisHeight         = 56.0 // ticks and label of the x axis

	barsWidth         = 960.0
	barsTop           = 60.0
	barHeight         = 26.0
	barLeft, barRight = 390.0, 690.0 // titles on the left, figures on the right
)

// drawing is an SVG document in the making.
type drawing struct{ strings.Builder }

func newDrawing(width, height float64, title string) *drawing {
	d := &drawing{}
	fmt.Fprintf(&d.Builder, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" font-family="system-ui, sans-serif" role="img" aria-label="%s">`+"\n",
		width, height, width, height, escape(title))
	fmt.Fprintf(&d.Builder, `<rect width="%g" height="%g" rx="6" fill="%s"/>`+"\n", width, height, paper)
	d.text(20, 32, "start", 17, ink, title)
	return d
}

// escape makes text fit for an element or an attribute.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	return b.String()
}

func (d *drawing) text(x, y float64, anchor string, size int, fill, text string) {
	fmt.Fprintf(&d.Builder, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>`+"\n", x, y, anchor, size, fill, escape(text))
}

func (d *drawing) line(x1, y1, x2, y2, width float64, stroke string) {
	fmt.Fprintf(&d.Builder, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>`+"\n", x1, y1, x2, y2, stroke, width)
}

func (d *drawing) end() string {
	d.WriteString("</svg>\n")
	return d.String()
}

// svg draws the chart. Every panel has at least one point.
func (c *chart) svg() string {
	height := plotTop + float64(len(c.panels))*(panelHeight+panelGap) - panelGap + axisHeight
	d := newDrawing(chartWidth, height, c.title)
	at := c.positions()
	bottom := plotTop
	for i := range c.panels {
		top := plotTop + float64(i)*(panelHeight+panelGap)
		bottom = top + panelHeight
		c.panels[i].draw(d, top, at)
	}
	for _, x := range c.values() {
		d.text(at(x), bottom+20, "middle", 12, faint, c.tick(x))
	}
	d.text((plotLeft+chartWidth-plotEdge)/2, bottom+44, "middle", 13, ink, c.x)
	return d.end()
}

// values are the x of the chart's points: all panels have the same.
func (c *chart) values() []float64 {
	var all []float64
	for _, p := range c.panels[0].points {
		all = append(all, p.x)
	}
	return all
}

// positions returns where a value of x stands, on a logarithmic axis.
func (c *chart) positions() func(float64) float64 {
	all := c.values()
	low, high := math.Log(all[0]), math.Log(all[len(all)-1])
	return func(x float64) float64 {
		left, right := plotLeft+30, chartWidth-plotEdge-30
		if high == low {
			return (left + right) / 2
		}
		return left + (right-left)*(math.Log(x)-low)/(high-low)
	}
}

func (p *panel) draw(d *drawing, top float64, at func(float64) float64) {
	highest := 0.0
	for _, point := range p.points {
		highest = max(highest, point.y.Max)
	}
	step, limit := axis(highest)
	above := func(y float64) float64 { return top + panelHeight*(1-y/limit) }

	d.text(20, top-18, "start", 13, ink, p.y)
	for i := 0; float64(i)*step <= limit*1.0001; i++ {
		y := float64(i) * step
		d.line(plotLeft, above(y), chartWidth-plotEdge, above(y), 1, lines)
		d.text(plotLeft-8, above(y)+4, "end", 12, faint, tickText(y))
	}
	path := make([]string, len(p.points))
	for i, point := range p.points {
		path[i] = fmt.Sprintf("%.1f,%.1f", at(point.x), above(point.y.Median))
		d.line(at(point.x), above(point.y.Min), at(point.x), above(point.y.Max), 2, faint)
	}
	fmt.Fprintf(&d.Builder, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/>`+"\n", strings.Join(path, " "), rule)
	for _, point := range p.points {
		fmt.Fprintf(&d.Builder, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", at(point.x), above(point.y.Median), rule)
		d.text(at(point.x), above(point.y.Max)-9, "middle", 12, ink, number(point.y.Median))
	}
}

// axis returns the distance of an axis' ticks and its end, for values up to
// highest; there is room above it for what is written at the points.
func axis(highest float64) (step, limit float64) {
	if highest <= 0 {
		return 1, 1
	}
	highest *= 1.12
	power := math.Pow(10, math.Floor(math.Log10(highest/5)))
	for _, factor := range []float64{1, 2, 5, 10} {
		step = power * factor
		if highest/step <= 5 {
			break
		}
	}
	return step, math.Ceil(highest/step) * step
}

// tickText prints a value of an axis without digits that say nothing.
func tickText(v float64) string {
	if v >= 1000 {
		return number(v)
	}
	return fmt.Sprintf("%.4g", v)
}

// barsSVG draws how far goals were reached, with a line where they are.
func barsSVG(title, label string, bars []bar) string {
	height := barsTop + float64(len(bars))*barHeight + axisHeight
	d := newDrawing(barsWidth, height, title)
	highest := 1.0
	for _, b := range bars {
		highest = max(highest, b.reached)
	}
	step, limit := axis(min(highest, 3)) // longer bars end at the edge
	at := func(v float64) float64 { return barLeft + (barRight-barLeft)*min(v, limit)/limit }
	bottom := barsTop + float64(len(bars))*barHeight
	for i := 0; float64(i)*step <= limit*1.0001; i++ {
		x := at(float64(i) * step)
		d.line(x, barsTop, x, bottom, 1, lines)
		d.text(x, bottom+18, "middle", 12, faint, tickText(float64(i)*step))
	}
	for i, b := range bars {
		y := barsTop + float64(i)*barHeight
		fill := missedFill
		if b.met {
			fill = metFill
		}
		fmt.Fprintf(&d.Builder, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" fill="%s"/>`+"\n", barLeft, y+5, at(b.reached)-barLeft, barHeight-10, fill)
		d.text(barLeft-10, y+18, "end", 13, ink, b.title)
		d.text(barRight+20, y+18, "start", 12, ink, b.text)
	}
	d.line(at(1), barsTop-4, at(1), bottom+4, 2, ink)
	d.text((barLeft+barRight)/2, bottom+44, "middle", 13, ink, label)
	return d.end()
}

// bars are the figures that have a goal.
func (m *measured) bars() []bar {
	var all []bar
	for _, o := range m.Scenarios {
		for i := range o.Figures {
			r := &o.Figures[i]
			if r.Goal == nil {
				continue
			}
			got, text := r.Value.Median, number(r.Value.Median)+" "+r.Unit
			if !r.Goal.Absolute {
				got, text = r.Ratio.Median, r.ratioText(r.Ratio.Median)
			}
			reached := got / r.Goal.Bound
			if r.Goal.Lower && got > 0 {
				reached = r.Goal.Bound / got
			}
			verdict := "missed"
			if r.Goal.Met {
				verdict = "met"
			}
			all = append(all, bar{title: o.Name + ": " + r.Title, text: fmt.Sprintf("%s, goal %s: %s", text, r.Goal.text(r.Unit), verdict), reached: reached, met: r.Goal.Met})
		}
	}
	return all
}

// writeCharts writes goals.svg, if a goal was measured, and a chart for each
// dimension that growth measured, into a folder that it makes.
func (m *measured) writeCharts(dir string) error {
	files := map[string]string{}
	if bars := m.bars(); len(bars) > 0 {
		files["goals.svg"] = barsSVG("Goals, "+m.Mode+" run at "+m.Environment.Commit, "how far each goal was reached; the line is the goal", bars)
	}
	for _, o := range m.Scenarios {
		if o.Name != growthName {
			continue
		}
		for _, d := range dimensions {
			if c := d.chart(o.Other); c != nil {
				files["growth-"+d.name+".svg"] = c.svg()
			}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the charts: %w", err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the charts: %w", err)
		}
	}
	return nil
}
