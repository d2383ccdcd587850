package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is what `go list -json` says of a package, as far as the rules read it.
type listed struct {
	Dir        string
	ImportPath string
	GoFiles    []string
	Imports    []string

	TestGoFiles  []string
	XTestGoFiles []string
}

func TestTheHouseIsBuiltToThePlan(t *testing.T) {
	for _, pkg := range list(t) {
		for _, fault := range importFaults(pkg) {
			t.Error(fault)
		}
		for _, name := range append(append(pkg.GoFiles, pkg.TestGoFiles...), pkg.XTestGoFiles...) {
			src, err := os.ReadFile(filepath.Join(pkg.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range sourceFaults(strings.TrimPrefix(pkg.ImportPath, module)+"/"+name, src) {
				t.Error(fault)
			}
		}
	}
}

// list reads the packages of the root module.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg listed
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, pkg)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages: the test does not see the house", len(pkgs))
	}
	return pkgs
}

// importFaults says which rules of the floor plan a package's imports break.
func importFaults(pkg listed) []string {
	name := strings.TrimPrefix(pkg.ImportPath, module)
	r, planned := floorPlan()[name]
	if !planned {
		return []string{fmt.Sprintf("%s is no room of the floor plan: put it into an existing room, or add it to plan_test.go and docs/architecture.md", name)}
	}
	var faults []string
	for _, imported := range pkg.Imports {
		if why := importFault(r, imported); why != "" {
			faults = append(faults, fmt.Sprintf("%s imports %s: %s", name, imported, why))
		}
	}
	return faults
}

func importFault(r room, imported string) string {
	if ours, is := strings.CutPrefix(imported, module); is {
		if slices.Contains(r.ours, ours) {
			return ""
		}
		return "imports go strictly down, as the floor plan says; hand the value over in the room above"
	}
	if under(imported, "testing") {
		return "testing belongs in _test.go files"
	}
	if r.pure {
		for banned, why := range impure() {
			if imported == banned || strings.Contains(banned, ".") && under(imported, banned) {
				return why
			}
		}
	}
	if !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
		return "" // the standard library
	}
	for _, may := range r.others {
		if under(imported, may) {
			return ""
		}
	}
	for library, why := range doors() {
		if under(imported, library) {
			return why
		}
	}
	return "the floor plan does not give this room that library"
}

// under reports whether an import path is a path or below it.
func under(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}

const (
	maxFileLines     = 450
	maxTestFileLines = 600
	maxFuncLines     = 80
)

// sourceFaults says which house rules a file breaks.
func sourceFaults(name string, src []byte) []string {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	if ast.IsGenerated(file) {
		return nil
	}
	var faults []string
	fault := func(at ast.Node, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s:%d: ", name, fset.Position(at.Pos()).Line)+fmt.Sprintf(format, args...))
	}
	isTest, limit := strings.HasSuffix(name, "_test.go"), maxFileLines
	if isTest {
		limit = maxTestFileLines
	}
	if lines := fset.Position(file.FileEnd).Line; lines > limit {
		fault(file, "%d lines, more than %d: split the file where its nouns part", lines, limit)
	}
	if isTest {
		return faults
	}
	if floorPlan()[path.Dir(name)].pure {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, is := n.(*ast.SelectorExpr); is && readsClock(call) {
				fault(n, "a pure room has no clock: time comes in as a value")
			}
			return true
		})
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				fault(d, "init runs behind the reader's back: make it a value, or call it from run")
			}
			if lines := fset.Position(d.End()).Line - fset.Position(d.Pos()).Line + 1; lines > maxFuncLines {
				fault(d, "%s has %d lines, more than %d: split it", d.Name.Name, lines, maxFuncLines)
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR || linked(d.Doc) {
				continue
			}
			for _, spec := range d.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					if id.Name != "_" && !strings.HasPrefix(id.Name, "Err") && !strings.HasPrefix(id.Name, "err") {
						fault(id, "%s is a global: make it a constant, a field, or a function that returns the value", id.Name)
					}
				}
			}
		}
	}
	return faults
}

// linked reports whether a declaration is of something that is compiled or linked in: Go has no other place for it, and nobody changes it.
func linked(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ") || strings.HasPrefix(c.Text, "//stamp:")
	})
}

// readsClock reports whether a function of package time does more than reckon.
func readsClock(call *ast.SelectorExpr) bool {
	pkg, is := call.X.(*ast.Ident)
	return is && pkg.Name == "time" &&
		slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, call.Sel.Name)
}
