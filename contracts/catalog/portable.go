package catalog

import (
	"encoding/json"

	"turbocat.io/contracts/rpc"
)

// Document formats.
const (
	FormatJSON = "json"
	FormatYAML = "yaml"
)

// ExportRequest asks for a workflow as a document that another installation can import.
type ExportRequest struct {
	ID     string `json:"id"`
	Format string `json:"format,omitempty"` // FormatJSON or FormatYAML; "" means the former
}

// ExportResponse has the document in the format that was asked for.
type ExportResponse struct {
	JSON json.RawMessage `json:"json,omitempty"`
	YAML string          `json:"yaml,omitempty"`
}

// ImportRequest makes the workflow of a document, and its agents.
type ImportRequest struct {
	Document []byte `json:"document"` // YAML, or JSON, which is YAML
}

// The methods about documents.
var (
	ExportWorkflow = rpc.Method[ExportRequest, ExportResponse]{Service: Service, Name: "export_workflow", Version: 1}
	ImportWorkflow = rpc.Method[ImportRequest, Workflow]{Service: Service, Name: "import_workflow", Version: 1}
)
