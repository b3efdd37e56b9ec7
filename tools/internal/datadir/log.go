//go:build unix

package datadir

import (
	"os"
	"sync"
)

// maxLog is how large a log file grows before it becomes the previous one.
const maxLog = 64 << 20

// Log is the installation's log file with its one predecessor. It is safe for concurrent use.
type Log struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLog begins a new log; the last one is kept beside it as NAME.1.
func (d *Dir) OpenLog(name string) (*Log, error) {
	l := &Log{path: d.Path(name)}
	if err := l.next(); err != nil {
		return nil, unusable(d.path, err)
	}
	return l, nil
}

// Path of the file.
func (l *Log) Path() string { return l.path }

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > maxLog {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

func (l *Log) next() error {
	if l.file != nil {
		_ = l.file.Close()
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	return nil
}
