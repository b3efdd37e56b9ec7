package schema

// SetMaxSteps lowers what a check may cost.
func (s *Schema) SetMaxSteps(n int) { s.meter.most = n }
