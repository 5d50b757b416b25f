package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/transforms"
)

// maxProgram bounds a plugin's file, in bytes.
const maxProgram = 1 << 30

var (
	pluginName   = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`)
	sha256Text   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// reservedVariables are those by which the relay speaks to a plugin.
	reservedVariables = regexp.MustCompile(`^(POSTHORN_PLUGIN|PLUGIN_)`)
)

func (v *validator) plugins(p place) {
	used := make(map[string]bool)
	for i := range v.cfg.Transforms {
		used[v.cfg.Transforms[i].Plugin] = true
	}
	for _, name := range slices.Sorted(maps.Keys(v.cfg.Plugins)) {
		at, plugin := p.field(name), v.cfg.Plugins[name]
		if !pluginName.MatchString(name) {
			v.problems.add(at, "must be named by 1 to 63 of a-z, 0-9, _ and -")
		}
		if !used[name] {
			v.warnings.add(at, "is not used: name it in transforms, or remove it")
		}
		v.program(at, &plugin)
		v.folder(at.field("dir"), plugin.Dir)
		v.folder(at.field("socket_dir"), plugin.SocketDir)
		for i, arg := range plugin.Args {
			if strings.Contains(arg, "\x00") {
				v.problems.add(at.field("args").item(i), "holds a NUL, which no argument can")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(plugin.Env)) {
			v.variable(at.field("env").field(name), name, plugin.Env[name])
		}
	}
}

// program checks which file is a plugin's, and that one where it is to be looked
// at.
func (v *validator) program(p place, plugin *Plugin) {
	at, pin := p.field("path"), p.field("sha256")
	switch {
	case !at.given:
		v.problems.add(at, "is required")
	case plugin.Path == "":
		v.problems.add(at, "is empty: name the program's file")
	case v.files:
		v.executable(at, plugin.Path)
	}
	switch {
	case plugin.SHA256 == "":
	case !sha256Text.MatchString(plugin.SHA256):
		v.problems.add(pin, "must be 64 hex digits, as sha256sum prints them, got %s", shown(pin.node))
	case v.files && !v.problems.keys[at.key()]:
		v.pinned(at, pin, plugin)
	}
}

// executable checks that the file at path can be run.
func (v *validator) executable(at place, path string) {
	info, err := os.Stat(path)
	var cause *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.problems.add(at, "names no file: %s; a relative path begins at the working directory", shown(at.node))
	case errors.As(err, &cause):
		v.problems.add(at, "cannot be read: %v", cause.Err)
	case info.IsDir():
		v.problems.add(at, "is a folder: name the program's file in it")
	case !info.Mode().IsRegular():
		v.problems.add(at, "is not a regular file")
	case info.Mode()&0o111 == 0:
		v.problems.add(at, "is not executable: give it the run bit with chmod +x")
	case info.Size() > maxProgram:
		v.problems.add(at, "is larger than %v", Bytes(maxProgram))
	}
}

// pinned checks that the file at path has the sha256 that is pinned, for which
// it reads it once.
func (v *validator) pinned(at, pin place, plugin *Plugin) {
	sum, err := fileSum(plugin.Path)
	var cause *fs.PathError
	switch {
	case errors.As(err, &cause):
		v.problems.add(at, "cannot be read: %v", cause.Err)
	case err != nil:
		v.problems.add(at, "cannot be read: %v", err)
	case sum != plugin.SHA256:
		v.problems.add(pin, "is not that of the file in path, which has %s: pin that if the file is the one that you want to run", sum)
	}
}

// fileSum returns the SHA-256 of a file of at most maxProgram bytes, in hex.
func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(file, maxProgram+1))
	switch {
	case err != nil:
		return "", err
	case n > maxProgram:
		return "", errors.New("it grew past " + Bytes(maxProgram).String())
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// folder checks a path that is a folder's, if it is given and to be looked at.
func (v *validator) folder(p place, path string) {
	if path == "" || !v.files {
		return
	}
	info, err := os.Stat(path)
	var cause *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.problems.add(p, "names no folder: %s; make it, or name another", shown(p.node))
	case errors.As(err, &cause):
		v.problems.add(p, "cannot be read: %v", cause.Err)
	case !info.IsDir():
		v.problems.add(p, "is no folder: %s", shown(p.node))
	}
}

func (v *validator) variable(p place, name string, value Secret) {
	switch {
	case !variableName.MatchString(name):
		v.problems.add(p, "is no variable's name: letters, digits and _, with no digit first")
	case reservedVariables.MatchString(name):
		v.problems.add(p, "must not be set: it is part of how the relay and its plugins speak")
	case strings.Contains(value.Reveal(), "\x00"):
		v.problems.add(p, "holds a NUL, which no variable can")
	}
}

// transforms checks all entries and returns those that are built in, known and
// valid, by their index.
func (v *validator) transforms(p place) map[int]transforms.Transform {
	built := make(map[int]transforms.Transform)
	for i := range v.cfg.Transforms {
		at, t := p.item(i), &v.cfg.Transforms[i]
		if match := at.field("match"); match.given && len(t.Match) == 0 {
			v.problems.add(match, `must name an event type, such as "pr.submitted", "pr.*" or "*"`)
		}
		for j, pattern := range t.Match {
			v.pattern(at.field("match").item(j), pattern)
		}
		switch kind := v.kind(at); kind {
		case "":
		case "plugin":
			v.pluginOf(at.field(kind), t.Plugin)
		default:
			if transform := v.builtin(at.field(kind), kind, t); transform != nil {
				built[i] = transform
			}
		}
	}
	return built
}

// kind returns which kind of transform is given at p, or "" when it is none,
// several or an empty one, which it reports.
func (v *validator) kind(p place) string {
	all := kindsOfTransform()
	given := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !p.field(key).given })
	switch len(given) {
	case 0:
		v.problems.add(p, "must have one of %s", oneOf(all))
	case 1:
		if at := p.field(given[0]); !at.node.isEmpty() {
			return given[0]
		} else if given[0] != "redact" { // whose paths are reported as required
			v.problems.add(at, "is empty")
		}
	default:
		last := len(given) - 1
		v.problems.add(p, "has %s and %s, must have one of them: make an entry of each", strings.Join(given[:last], ", "), given[last])
	}
	return ""
}

// pluginOf checks the name of a transform's plugin.
func (v *validator) pluginOf(p place, name string) {
	if _, ok := v.cfg.Plugins[name]; ok {
		return
	}
	suggestion := ""
	for _, candidate := range slices.Sorted(maps.Keys(v.cfg.Plugins)) {
		if p.node.source == "" && closeTo(candidate, name) {
			suggestion = "; did you mean \"" + candidate + "\"?"
		}
	}
	v.problems.add(p, "no plugin of that name: %s%s", shown(p.node), suggestion)
}

// builtin returns the transform that t describes at p, the key of its kind, or
// nil when it is not known, for want of a schema's file, or invalid, which it
// reports.
func (v *validator) builtin(p place, kind string, t *Transform) transforms.Transform {
	valid := t.Kind() == kind // what could not be read is reported
	switch kind {
	case "redact":
		valid = v.redact(p, &t.Redact) && valid
	case "schema":
		valid = v.schemas(p, t) && valid
	}
	if !valid {
		return nil
	}
	parts := t.parts(p)
	for _, part := range parts {
		if _, err := part.transform.Builtin(v.cfg, nil); err != nil {
			v.problems.add(part.place, "%s", transformProblem(part.place, kind, err))
			valid = false
		}
	}
	if !valid {
		return nil
	}
	transform, err := t.Builtin(v.cfg, v.samples.violates)
	if err != nil {
		v.problems.add(p, "%s", transformProblem(p, kind, err))
		return nil
	}
	return transform
}

// part is one path or header of a transform as a transform of its own.
type part struct {
	place     place
	transform Transform
}

// parts returns the paths or headers of a transform at p that has such, so that
// a problem is shown where it stands.
func (t *Transform) parts(p place) []part {
	var parts []part
	for _, path := range slices.Sorted(maps.Keys(t.Set)) {
		parts = append(parts, part{p.field(path), Transform{Set: map[string]JSON{path: t.Set[path]}}})
	}
	for i, path := range t.Remove {
		parts = append(parts, part{p.item(i), Transform{Remove: []string{path}}})
	}
	for _, path := range slices.Sorted(maps.Keys(t.Rename)) {
		parts = append(parts, part{p.field(path), Transform{Rename: map[string]string{path: t.Rename[path]}}})
	}
	for i, path := range t.Redact.Paths {
		one := t.Redact
		one.Paths = []string{path}
		parts = append(parts, part{p.field("paths").item(i), Transform{Redact: one}})
	}
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		parts = append(parts, part{p.field(name), Transform{Headers: map[string]string{name: t.Headers[name]}}})
	}
	return parts
}

// transformProblem is what a problem at p says of err, which a transform of the
// given kind could not be made or could not be applied with.
func transformProblem(p place, kind string, err error) string {
	message := err.Error()
	plain := map[string]string{
		"jq": "it is no jq program", "template": "it is no template", "type": "it is no template", "headers": "it is no template",
		"set": "the value cannot be set", "remove": "it is no path", "rename": "it is no key", "redact": "it is no path",
	}[kind]
	if kind == "filter" {
		message = strings.TrimPrefix(message, "parse filter: ")
		plain = plainFilterProblem(message)
	}
	return quotable(p, message, plain)
}

// minRedactSecret is what the key of an HMAC needs at least, in bytes.
const minRedactSecret = 16

// redact reports whether the keys of redact go together.
func (v *validator) redact(p place, r *Redact) bool {
	paths, mask, secret := p.field("paths"), p.field("mask"), p.field("secret")
	switch {
	case len(r.Paths) == 0:
		v.problems.add(paths, "is empty: name what is to be hidden")
	case r.Mode == "mask" && secret.given:
		v.problems.add(secret, "goes with mode: hash")
	case r.Mode == "hash" && mask.given:
		v.problems.add(mask, "goes with mode: mask")
	case r.Mode == "hash" && r.Secret == "":
		v.problems.add(secret, "is required with mode: hash")
	case r.Mode == "hash" && len(r.Secret) < minRedactSecret:
		v.problems.add(secret, "is too short: it must have at least %d bytes; openssl rand -base64 32 makes one", minRedactSecret)
	default:
		return true
	}
	return false
}

// schemas reports whether the schemas that t checks with are known and valid,
// which is reported where they stand. It warns where there are none.
func (v *validator) schemas(p place, t *Transform) bool {
	found, valid := false, true
	for i := range v.cfg.Events {
		if event := &v.cfg.Events[i]; event.hasSchema() && transforms.MatchesType(t.Match, event.Type) {
			found = true
			valid = valid && v.samples.schemas[i] != nil
		}
	}
	if !found {
		v.warnings.add(p, "checks nothing: no type that match is for has a schema in events")
	}
	return valid
}

// schema returns the transform that rejects what violates the schema of an
// event type, or nil when it has none, one whose file is not to be looked at, or
// an invalid one, which it reports at p.
func (v *validator) schema(p place, event *EventType) transforms.Transform {
	if !event.hasSchema() {
		return nil
	}
	text := string(event.Schema)
	if path := event.schemaFile(); path != "" {
		data, ok := v.file(p, path)
		if !ok {
			return nil
		}
		text = string(data)
	}
	transform, err := transforms.NewSchema(transforms.SchemaOptions{Schemas: map[string]string{event.Type: text}})
	if err != nil {
		message := strings.TrimPrefix(err.Error(), "schema of "+event.Type+": ")
		v.problems.add(p, "%s", quotable(p, message, "it is no JSON Schema"))
		return nil
	}
	return transform
}
