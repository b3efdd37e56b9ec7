package script

import (
	"path"

	"github.com/evanw/esbuild/pkg/api"

	"turbocat.io/contracts/runner"
)

// missing is what the engine lacks of ECMAScript 2022 and what can be put in other words.
var missing = map[string]bool{"async-generator": false, "for-await": false}

// transform gives JavaScript that the engine has all of, without the types of TypeScript, which it does not check. At its end is a source map,
// by which errors name the author's own lines. It reads no files.
func transform(name string, text []byte, loader api.Loader) ([]byte, *runner.StepError) {
	result := api.Transform(string(text), api.TransformOptions{
		Loader: loader, Target: api.ES2022, Supported: missing, Sourcefile: path.Base(name), // it is looked for beside the file that has the map
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
