package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"slices"
)

// maxColours is what a palette holds.
const maxColours = 256

// shrink returns a PNG with a palette in place of one of true colours. Pages
// have few colours; those that stand between them, at the edges of letters, are
// replaced by the nearest that is kept.
func shrink(picture []byte) ([]byte, error) {
	decoded, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&out, paletted(decoded))
	return out.Bytes(), err
}

type rgb struct{ r, g, b uint8 }

func at(m image.Image, x, y int) rgb {
	c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
	return rgb{c.R, c.G, c.B}
}

// distance is between two colours, squared.
func (c rgb) distance(d rgb) int {
	r, g, b := int(c.r)-int(d.r), int(c.g)-int(d.g), int(c.b)-int(d.b)
	return 2*r*r + 4*g*g + 3*b*b
}

// paletted returns the picture in its most frequent colours.
func paletted(m image.Image) *image.Paletted {
	box := m.Bounds()
	count := make(map[rgb]int)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			count[at(m, x, y)]++
		}
	}
	kept := keep(count)
	palette := make(color.Palette, len(kept))
	for i, c := range kept {
		palette[i] = color.NRGBA{c.r, c.g, c.b, 255}
	}
	nearest := make(map[rgb]uint8, len(count))
	for c := range count {
		best := 0
		for i := range kept {
			if c.distance(kept[i]) < c.distance(kept[best]) {
				best = i
			}
		}
		nearest[c] = uint8(best)
	}
	out := image.NewPaletted(box, palette)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			out.SetColorIndex(x, y, nearest[at(m, x, y)])
		}
	}
	return out
}

// keep returns the most frequent colours that are far enough from each other to
// be few enough.
func keep(count map[rgb]int) []rgb {
	all := make([]rgb, 0, len(count))
	for c := range count {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b rgb) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return int(a.r)<<16 + int(a.g)<<8 + int(a.b) - int(b.r)<<16 - int(b.g)<<8 - int(b.b)
	})
	for apart := 0; ; apart = max(16, apart*2) {
		kept := apartBy(all, apart)
		if len(kept) <= maxColours {
			return kept
		}
	}
}

// apartBy returns the first of the colours that are at least so far from those
// before them; one more than a palette holds at most.
func apartBy(all []rgb, apart int) (kept []rgb) {
	for _, c := range all {
		if !slices.ContainsFunc(kept, func(k rgb) bool { return c.distance(k) < apart }) {
			if kept = append(kept, c); len(kept) > maxColours {
				break
			}
		}
	}
	return kept
}
