package script

import (
	"path"

	"github.com/evanw/esbuild/pkg/api"

	"turbocat.io/contracts/runner"
)

// withoutTypes gives the JavaScript of a TypeScript file, with a source map at its end, by which errors name the author's own lines. Types
// are not checked. It reads no files.
func withoutTypes(name string, text []byte) ([]byte, *runner.StepError) {
	result := api.Transform(string(text), api.TransformOptions{
		Loader: api.LoaderTS, Target: api.ES2022, Sourcefile: path.Base(name), // it is looked for beside the file that has the map
		Sourcemap: api.SourceMapInline, SourcesContent: api.SourcesContentExclude, LogLevel: api.LogLevelSilent,
	})
	if len(result.Errors) == 0 {
		return result.Code, nil
	}
	found := result.Errors[0]
	fault := &runner.StepError{Code: runner.CodeSyntax, Type: "SyntaxError", Message: clip(found.Text, maxMessage, cutMark)}
	if l := found.Location; l != nil {
		fault.Message = clip(at(found.Text, name, l.Line, l.Column+1), maxMessage, cutMark)
	}
	return nil, fault
}
