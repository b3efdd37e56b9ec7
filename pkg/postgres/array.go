package postgres

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Arrays of the hot paths travel in the server's own binary form: as text, which is what pq.Array makes, bytea has twice
// its size, and the server spends more on reading them than on storing what they hold.

// The server's numbers of element types.
const (
	oidBytea = 17
	oidInt8  = 20
	oidInt2  = 21
	oidInt4  = 23
	oidText  = 25
	oidUUID  = 2950
)

// Bytes is a bytea[]; nil is NULL.
type Bytes [][]byte

// Texts is a text[].
type Texts []string

// UUIDs is a uuid[]; "" is NULL, and what is no UUID an error.
type UUIDs []string

// Int2s is a smallint[].
type Int2s []int64

// Int4s is an integer[].
type Int4s []int64

// Int8s is a bigint[].
type Int8s []int64

// Value implements driver.Valuer.
func (a Bytes) Value() (driver.Value, error) {
	size := 0
	for _, v := range a {
		size += len(v)
	}
	b := array(oidBytea, len(a), size)
	for _, v := range a {
		if v == nil {
			b = null(b)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return b, nil
}

// Value implements driver.Valuer.
func (a Texts) Value() (driver.Value, error) {
	size := 0
	for _, v := range a {
		size += len(v)
	}
	b := array(oidText, len(a), size)
	for _, v := range a {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return b, nil
}

// Value implements driver.Valuer.
func (a UUIDs) Value() (driver.Value, error) {
	b := array(oidUUID, len(a), 16*len(a))
	for _, v := range a {
		if v == "" {
			b = null(b)
			continue
		}
		id, err := uuid.Parse(v)
		if err != nil {
			return nil, refused("22P02", "%q is no UUID", v)
		}
		b = append(binary.BigEndian.AppendUint32(b, 16), id[:]...)
	}
	return b, nil
}

// Value implements driver.Valuer.
func (a Int2s) Value() (driver.Value, error) {
	b := array(oidInt2, len(a), 2*len(a))
	for _, v := range a {
		if v != int64(int16(v)) {
			return nil, refused("22003", "%d is out of range", v)
		}
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), uint16(v))
	}
	return b, nil
}

// Value implements driver.Valuer.
func (a Int4s) Value() (driver.Value, error) {
	b := array(oidInt4, len(a), 4*len(a))
	for _, v := range a {
		if v != int64(int32(v)) {
			return nil, refused("22003", "%d is out of range", v)
		}
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(v))
	}
	return b, nil
}

// Value implements driver.Valuer.
func (a Int8s) Value() (driver.Value, error) {
	b := array(oidInt8, len(a), 8*len(a))
	for _, v := range a {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
	}
	return b, nil
}

// array begins an array of so many elements, which take size bytes without their lengths.
func array(oid uint32, elements, size int) []byte {
	b := make([]byte, 0, 20+4*elements+size)
	dimensions := uint32(1)
	if elements == 0 {
		dimensions = 0
	}
	b = binary.BigEndian.AppendUint32(b, dimensions)
	b = binary.BigEndian.AppendUint32(b, 1) // there may be NULLs
	b = binary.BigEndian.AppendUint32(b, oid)
	if elements > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(elements))
		b = binary.BigEndian.AppendUint32(b, 1) // the index of the first
	}
	return b
}

// refused is the error by which the server would refuse a value.
func refused(code pqerror.Code, format string, args ...any) error {
	return &pq.Error{Severity: "ERROR", Code: code, Message: fmt.Sprintf(format, args...)}
}

func null(b []byte) []byte { return binary.BigEndian.AppendUint32(b, 0xffffffff) }
