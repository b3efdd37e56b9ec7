package catalog

// Config of the catalog, from TURBOCAT_CATALOG_<FIELD>. There is nothing to set yet.
type Config struct{}
