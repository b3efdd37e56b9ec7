package httpapi

import (
	"context"
	"strconv"

	"turbocat.io/contracts/rpc"
)

// envelope surrounds the data of every answer that is no list and no error.
type envelope[T any] struct {
	Success   bool   `json:"success" enum:"true"`
	Data      T      `json:"data"`
	RequestID string `json:"requestId"`
}

// listEnvelope surrounds one page of a list.
type listEnvelope[T any] struct {
	Success   bool     `json:"success" enum:"true"`
	Data      []T      `json:"data"`
	Meta      listMeta `json:"meta"`
	RequestID string   `json:"requestId"`
}

type listMeta struct {
	Pagination rpc.Pagination `json:"pagination"`
}

// answer is a huma output of one thing.
type answer[T any] struct {
	Body envelope[T]
}

// versioned is an answer whose ETag is the version of the thing.
type versioned[T any] struct {
	ETag string `header:"ETag" doc:"the version, in quotes; send it as If-Match to change only that version"`
	Body envelope[T]
}

// listed is a huma output of one page.
type listed[T any] struct {
	Body listEnvelope[T]
}

func enclose[T any](ctx context.Context, data T) envelope[T] {
	return envelope[T]{Success: true, Data: data, RequestID: requestOf(ctx).caller.RequestID}
}

// answerWith makes the output of a handler from that of an RPC.
func answerWith[T any](ctx context.Context, data T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{Body: enclose(ctx, data)}, nil
}

func versionedWith[T any](ctx context.Context, data T, version func(T) int, err error) (*versioned[T], error) {
	if err != nil {
		return nil, err
	}
	return &versioned[T]{ETag: strconv.Quote(strconv.Itoa(version(data))), Body: enclose(ctx, data)}, nil
}

func listedWith[T any](ctx context.Context, list rpc.List[T], err error) (*listed[T], error) {
	if err != nil {
		return nil, err
	}
	if list.Items == nil {
		list.Items = []T{}
	}
	return &listed[T]{Body: listEnvelope[T]{Success: true, Data: list.Items, Meta: listMeta{list.Pagination}, RequestID: requestOf(ctx).caller.RequestID}}, nil
}
