// The client logs in, makes an API key, and runs a workflow with it. It needs the standard library alone.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// refused is an answer that is no success: go by its code, and show its message and details.
type refused struct {
	Status int
	Fault  struct {
		Code, Message string
		Details       []struct{ Field, Message, Code string }
	} `json:"error"`
	RequestID string
}

func (r *refused) Error() string {
	return fmt.Sprintf("%d %s: %s %v (request %s)", r.Status, r.Fault.Code, r.Fault.Message, r.Fault.Details, r.RequestID)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	account := map[string]any{"email": os.Getenv("TURBOCAT_EMAIL"), "password": os.Getenv("TURBOCAT_PASSWORD")}
	var session struct{ AccessToken, RefreshToken string }
	err := call(ctx, "POST", "/auth/login", account, &session)
	if no := (*refused)(nil); errors.As(err, &no) && no.Fault.Code == "UNAUTHORIZED" {
		account["fullName"] = "A Client"
		err = call(ctx, "POST", "/auth/register", account, &session)
	}
	if err != nil {
		return err
	}
	login := []string{"Authorization", "Bearer " + session.AccessToken}

	// A program has a key of its own, with the scopes that it needs. Its text is told this once.
	var made struct{ ID, Key string }
	scopes := []string{"agents:write", "workflows:write", "workflows:execute"}
	if err := call(ctx, "POST", "/api-keys", map[string]any{"name": "client.go", "scopes": scopes}, &made, login...); err != nil {
		return err
	}
	key := []string{"X-API-Key", made.Key}

	var agent, workflow struct{ ID string }
	if err := call(ctx, "POST", "/agents", map[string]any{
		"name": "sum", "type": "CODE", "status": "ACTIVE",
		"config": map[string]any{"runtime": "javascript", "source": "function handler({values}) { return {sum: values.reduce((a, b) => a + b, 0)} }"},
	}, &agent, key...); err != nil {
		return err
	}
	if err := call(ctx, "POST", "/workflows", map[string]any{
		"name": "sum", "status": "ACTIVE", "outputs": map[string]any{"sum": "{{add.output.sum}}"},
		"steps": []any{map[string]any{"stepKey": "add", "stepType": "AGENT", "agentId": agent.ID, "inputs": map[string]any{"values": "{{inputs.values}}"}}},
	}, &workflow, key...); err != nil {
		return err
	}

	// An Idempotency-Key makes it safe to send the request again when no answer has come.
	var execution struct{ Outputs json.RawMessage }
	if err := call(ctx, "POST", "/workflows/"+workflow.ID+"/execute?wait=30s", map[string]any{"inputs": map[string]any{"values": []int{1, 2, 3}}},
		&execution, append(key, "Idempotency-Key", rand.Text())...); err != nil {
		return err
	}
	fmt.Println(string(execution.Outputs))

	if err := call(ctx, "DELETE", "/api-keys/"+made.ID, nil, nil, login...); err != nil {
		return err
	}
	return call(ctx, "POST", "/auth/logout", map[string]any{"refreshToken": session.RefreshToken}, nil)
}

// call sends a request, with headers given as names and values, and reads the data of its answer.
func call(ctx context.Context, method, path string, body, into any, headers ...string) error {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, os.Getenv("TURBOCAT_URL")+"/api/v1"+path, &content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 400 {
		no := &refused{Status: resp.StatusCode}
		return errors.Join(json.NewDecoder(resp.Body).Decode(no), no)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(&struct{ Data any }{into})
}
