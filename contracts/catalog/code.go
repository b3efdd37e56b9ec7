package catalog

import (
	"fmt"
	"slices"
)

// Runtimes of CODE agents.
const (
	RuntimeJavaScript = "javascript"
	RuntimeTypeScript = "typescript"
	RuntimePython     = "python"
)

// CodeEnding gives how files of a runtime end.
func CodeEnding(runtime string) string {
	return map[string]string{RuntimeJavaScript: ".js", RuntimeTypeScript: ".ts", RuntimePython: ".py"}[runtime]
}

// MainFile gives which of the files of a CODE config has the function that is called: the one that main names, the only one, or main.js,
// main.ts or main.py. When there is none, fault says why, as the message of the field main.
func MainFile(runtime, main string, files []string) (name, fault string) {
	usual := "main" + CodeEnding(runtime)
	switch {
	case main != "" && slices.Contains(files, main):
		return main, ""
	case main != "":
		return "", "names none of the files; name one of them"
	case len(files) == 1:
		return files[0], ""
	case slices.Contains(files, usual):
		return usual, ""
	default:
		return "", fmt.Sprintf("is missing; name the file that has the function, or call it %s", usual)
	}
}
