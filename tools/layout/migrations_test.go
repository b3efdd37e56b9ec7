package layout

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

var migrationPattern = regexp.MustCompile(`^\d{6}_[a-z][a-z0-9_]*\.(up|down)\.sql$`)

// TestMigrationsHaveAWayBack wants a number of its own and a way back of every migration.
func TestMigrationsHaveAWayBack(t *testing.T) {
	root := workspace(t)
	services, err := os.ReadDir(root + "/migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		if !service.IsDir() {
			continue
		}
		dir := "migrations/" + service.Name()
		files, err := os.ReadDir(root + "/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(files); i += 2 { // in the order of names: down stands before up
			name := files[i].Name()
			if !migrationPattern.MatchString(name) || name[:6] != fmt.Sprintf("%06d", i/2+1) {
				t.Errorf("%s/%s is not the next migration; name it %06d_<what for>.up.sql, and its way back .down.sql", dir, name, i/2+1)
				break
			}
			purpose := name[:len(name)-len(".down.sql")]
			if i+1 == len(files) || name != purpose+".down.sql" || files[i+1].Name() != purpose+".up.sql" {
				t.Errorf("%s/%s stands alone; a migration is a pair of files, .up.sql and .down.sql", dir, name)
				break
			}
		}
	}
}
