package script

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"

	"github.com/evanw/esbuild/pkg/api"
	"github.com/grafana/sobek"
	"github.com/grafana/sobek/ast"
	"github.com/grafana/sobek/parser"

	"turbocat.io/contracts/runner"
)

// load runs the main file, and what it imports, and gives the function of it that the job names: a global one of a script, an exported
// one of a module, whose default export is taken for one of another name.
func (h *host) load(job Job) (sobek.Callable, *runner.StepError) {
	c := &code{job: job, modules: map[string]*sobek.SourceTextModuleRecord{}, names: map[any]string{}}
	h.vm.SetImportModuleDynamically(func(from any, specifier sobek.Value, promise any) {
		module, err := c.resolve(from, specifier.String())
		var reason any
		if err != nil {
			reason = h.vm.NewTypeError(err.Error())
		}
		h.vm.FinishLoadingImportModule(from, specifier, promise, module, reason)
	})
	tree, isModule, fault := c.parse(job.Main)
	if fault != nil {
		return nil, fault
	}
	if isModule {
		return h.loadModule(c, tree)
	}
	program, err := sobek.CompileAST(tree, false)
	if err != nil {
		return nil, syntax(job.Main, err)
	}
	if _, err := h.vm.RunProgram(program); err != nil {
		return nil, h.thrown(err)
	}
	if isIdentifier(job.Entry) {
		// A const is no property of the global object: only code sees it.
		if v, err := h.vm.RunString("typeof " + job.Entry + " === 'undefined' ? undefined : " + job.Entry); err == nil {
			if handler, ok := sobek.AssertFunction(v); ok {
				return handler, nil
			}
		}
	}
	return nil, noEntry("%q is not a function of the source; declare function %s(input, context), or name one that is declared", job.Entry, job.Entry)
}

func (h *host) loadModule(c *code, tree *ast.Program) (sobek.Callable, *runner.StepError) {
	module, err := c.module(c.job.Main, tree)
	if err == nil {
		err = module.Link()
	}
	if err != nil {
		return nil, syntax(c.job.Main, err)
	}
	if _, err := h.settle(h.vm.ToValue(h.vm.CyclicModuleRecordEvaluate(module, c.resolve))); err != nil {
		var rejected rejection
		if errors.As(err, &rejected) {
			if ours, ok := rejected.reason.Export().(error); ok { // an import that finds no export
				return nil, syntax(c.job.Main, ours)
			}
		}
		return nil, h.thrown(err)
	}
	exports := h.vm.NamespaceObjectFor(module)
	for _, name := range []string{c.job.Entry, "default"} {
		if handler, ok := sobek.AssertFunction(h.property(exports, name)); ok {
			return handler, nil
		}
	}
	return nil, noEntry("%q is not a function that %s exports; write export function %s(input, context), or name one that is exported", c.job.Entry, c.job.Main, c.job.Entry)
}

func isIdentifier(name string) bool {
	for i, c := range name {
		if c != '_' && c != '$' && !unicode.IsLetter(c) && (i == 0 || !unicode.IsNumber(c)) {
			return false
		}
	}
	return name != ""
}

func noEntry(format string, args ...any) *runner.StepError {
	return &runner.StepError{Code: runner.CodeInvalidConfig, Message: "config.entry: " + fmt.Sprintf(format, args...)}
}

// code is the files of a job, parsed when they are needed.
type code struct {
	job     Job
	modules map[string]*sobek.SourceTextModuleRecord
	names   map[any]string // of modules
}

// parse reads a file as a script, or as a module when it is one: it imports, exports or awaits.
func (c *code) parse(name string) (tree *ast.Program, isModule bool, fault *runner.StepError) {
	var text []byte
	for _, f := range c.job.Files {
		if f.Name == name {
			text = f.Text
		}
	}
	if c.isTypeScript(name) {
		if text, fault = transform(name, text, api.LoaderTS); fault != nil {
			return nil, false, fault
		}
		return parse(name, text, ownMap)
	}
	if tree, isModule, fault = parse(name, text, parser.WithDisableSourceMaps); fault == nil {
		return tree, isModule, nil
	}
	// It may be right, and have what the engine has not.
	if text, errTransform := transform(name, text, api.LoaderJS); errTransform == nil {
		if tree, isModule, fault := parse(name, text, ownMap); fault == nil {
			return tree, isModule, nil
		}
	}
	return nil, false, fault
}

// ownMap reads the source map that transform has put at the end of a file, whatever else that says, and none from elsewhere.
var ownMap = parser.WithSourceMapLoader(func(string) ([]byte, error) { return nil, errors.New("source maps are not loaded") })

func parse(name string, text []byte, maps parser.Option) (tree *ast.Program, isModule bool, fault *runner.StepError) {
	script, err := parser.ParseFile(nil, name, string(text), 0, maps)
	if err == nil && len(script.ImportEntries)+len(script.ExportEntries) == 0 {
		return script, false, nil
	}
	module, errModule := parser.ParseFile(nil, name, string(text), 0, maps, parser.IsModule)
	switch {
	case errModule == nil:
		return module, true, nil
	case furthest(errModule) > furthest(err):
		return nil, true, syntax(name, errModule)
	default:
		return nil, false, syntax(name, err)
	}
}

func (c *code) isTypeScript(name string) bool {
	switch path.Ext(name) {
	case ".ts", ".mts", ".cts":
		return true
	case ".js", ".mjs", ".cjs":
		return false
	}
	return c.job.TypeScript
}

func (c *code) module(name string, tree *ast.Program) (*sobek.SourceTextModuleRecord, error) {
	module, err := sobek.ModuleFromAST(tree, c.resolve)
	if err == nil {
		c.modules[name], c.names[module] = module, name
	}
	return module, err
}

// resolve gives what a module imports: another file, named from where it stands.
func (c *code) resolve(from any, specifier string) (sobek.ModuleRecord, error) {
	importer := c.job.Main
	if name, ok := c.names[from]; ok {
		importer = name
	}
	name, ok := c.find(importer, specifier)
	if !ok {
		return nil, &runner.StepError{Code: runner.CodeSyntax, Type: "SyntaxError", Message: fmt.Sprintf("%s imports %q, and no file of the agent is that; import one of config.files, as \"./name.js\"", importer, specifier)}
	}
	if module := c.modules[name]; module != nil {
		return module, nil
	}
	tree, isModule, fault := c.parse(name)
	if fault != nil {
		return nil, fault
	}
	if !isModule {
		return nil, &runner.StepError{Code: runner.CodeSyntax, Type: "SyntaxError", Message: fmt.Sprintf("%s imports %s, which exports nothing; write export before what it is to give", importer, name)}
	}
	module, err := c.module(name, tree)
	if err != nil {
		return nil, syntax(name, err)
	}
	return module, nil
}

// find gives the file that a module means: by its name, without its ending, or with that of what TypeScript becomes.
func (c *code) find(importer, specifier string) (string, bool) {
	if !strings.HasPrefix(specifier, "./") && !strings.HasPrefix(specifier, "../") {
		return "", false
	}
	name := path.Join(path.Dir(importer), specifier)
	for _, candidate := range []string{name, name + ".js", name + ".ts", name + ".mjs", name + ".mts", strings.TrimSuffix(name, ".js") + ".ts", strings.TrimSuffix(name, ".mjs") + ".mts"} {
		for _, f := range c.job.Files {
			if f.Name == candidate {
				return candidate, true
			}
		}
	}
	return "", false
}

// furthest tells how far a parser came: where its first error stands.
func furthest(err error) int {
	var list parser.ErrorList
	if !errors.As(err, &list) || len(list) == 0 {
		return 0
	}
	p := list[0].Position
	return p.Line<<20 + min(p.Column, 1<<20-1)
}

// syntax gives what is wrong with a file as a fault.
func syntax(name string, err error) *runner.StepError {
	var (
		fault    *runner.StepError
		list     parser.ErrorList
		compiled *sobek.CompilerSyntaxError
	)
	if errors.As(err, &fault) {
		return fault
	}
	fault = &runner.StepError{Code: runner.CodeSyntax, Type: "SyntaxError", Message: clip(err.Error(), maxMessage, cutMark)}
	switch {
	case errors.As(err, &list) && len(list) > 0:
		p := list[0].Position
		fault.Message = at(list[0].Message, name, p.Line, p.Column)
	case errors.As(err, &compiled) && compiled.File != nil:
		p := compiled.File.Position(compiled.Offset)
		fault.Message = at(compiled.Message, compiled.File.Name(), p.Line, p.Column)
	}
	return fault
}

func at(message, file string, line, column int) string {
	return fmt.Sprintf("%s, in %s line %d column %d", message, file, line, column)
}
