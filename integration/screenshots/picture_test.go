package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

// drawn returns a picture whose pixels are as of says, as PNG.
func drawn(t *testing.T, side int, of func(x, y int) color.NRGBA) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			m.SetNRGBA(x, y, of(x, y))
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func shrunk(t *testing.T, picture []byte) *image.Paletted {
	t.Helper()
	small, err := shrink(picture)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	p, ok := m.(*image.Paletted)
	if !ok {
		t.Fatalf("it is a %T", m)
	}
	return p
}

func TestShrinkKeepsFewColoursAsTheyAre(t *testing.T) {
	of := func(x, y int) color.NRGBA { return color.NRGBA{uint8(x), uint8(y % 2), 7, 255} }
	m := shrunk(t, drawn(t, 128, of))
	for y := range 128 {
		for x := range 128 {
			if got := color.NRGBAModel.Convert(m.At(x, y)); got != of(x, y) {
				t.Fatalf("at %d, %d got %v, want %v", x, y, got, of(x, y))
			}
		}
	}
}

func TestShrinkTakesTheNearestOfManyColours(t *testing.T) {
	of := func(x, y int) color.NRGBA { return color.NRGBA{uint8(2 * x), uint8(2 * y), 128, 255} }
	m := shrunk(t, drawn(t, 128, of))
	if n := len(m.Palette); n > maxColours || n < maxColours/8 {
		t.Errorf("%d colours", n)
	}
	for y := range 128 {
		for x := range 128 {
			r, g, _, _ := m.At(x, y).RGBA()
			want := of(x, y)
			if dr, dg := int(r>>8)-int(want.R), int(g>>8)-int(want.G); dr*dr+dg*dg > 48*48 {
				t.Fatalf("at %d, %d got %v, want about %v", x, y, m.At(x, y), want)
			}
		}
	}
}
