package errs

// Detail is one fault of a request: where it stands, what is wrong and what would be right.
type Detail struct {
	Field   string     `json:"field"`
	Message string     `json:"message"`
	Code    DetailCode `json:"code"`
}

// DetailCode names what is wrong in one place of a request. It is part of the public API and
// never changes its meaning.
type DetailCode string

// What can be wrong with any field.
const (
	Required      DetailCode = "required"       // it is missing, empty or null, and must be given
	UnknownField  DetailCode = "unknown_field"  // there is no such field here
	BadJSON       DetailCode = "bad_json"       // the whole is not JSON in UTF-8
	BadType       DetailCode = "bad_type"       // it is of another type than what belongs there
	BadEnum       DetailCode = "bad_enum"       // it is none of the few values that belong there
	BadValue      DetailCode = "bad_value"      // it has the right type, and is not of the form that belongs there
	OutOfRange    DetailCode = "out_of_range"   // it is too small, too large, too short or too long
	Unsupported   DetailCode = "unsupported"    // it asks for what Turbocat can not do yet
	NotApplicable DetailCode = "not_applicable" // it means nothing here: for a step of this type, or beside another field
	More          DetailCode = "more"           // it stands last and says how many more faults there are than are told
)

// What can be wrong with a workflow or an agent.
const (
	BadKey         DetailCode = "bad_key"         // it can not be the key of a step
	ReservedKey    DetailCode = "reserved_key"    // it can not be the key of a step, for it means something else in templates
	DuplicateKey   DetailCode = "duplicate_key"   // it is the key of a step that was named before
	UnknownStep    DetailCode = "unknown_step"    // it names a step that the workflow does not have
	UnknownAgent   DetailCode = "unknown_agent"   // it names an agent that does not exist or may not be used
	SelfDependency DetailCode = "self_dependency" // it makes a step wait for itself
	Cycle          DetailCode = "cycle"           // it makes steps wait for each other
	NotAnAncestor  DetailCode = "not_an_ancestor" // its template or expression names a step that need not have run before
	NotADependent  DetailCode = "not_a_dependent" // it names a step in a branch of a CONDITION that does not depend on it
	BadExpression  DetailCode = "bad_expression"  // its expression does not compile, or names what never has a value
	BadTemplate    DetailCode = "bad_template"    // its template is malformed, or names what never has a value
	NotActive      DetailCode = "not_active"      // what is to be executed does not have the status ACTIVE
	NoSteps        DetailCode = "no_steps"        // there is nothing to execute
)

// What can be wrong with a new password, beside its length.
const (
	MissingUpper   DetailCode = "missing_upper"   // it has no upper-case letter
	MissingLower   DetailCode = "missing_lower"   // it has no lower-case letter
	MissingDigit   DetailCode = "missing_digit"   // it has no digit
	MissingSpecial DetailCode = "missing_special" // it has no special character
	CommonPassword DetailCode = "common_password" // it is one of those most often used
)

// What can be wrong with a service.
const (
	NotReady DetailCode = "not_ready" // it can not work now
)

// DetailCodes gives the closed list of all of them.
func DetailCodes() []DetailCode {
	return []DetailCode{
		Required, UnknownField, BadJSON, BadType, BadEnum, BadValue, OutOfRange, Unsupported, NotApplicable, More,
		BadKey, ReservedKey, DuplicateKey, UnknownStep, UnknownAgent, SelfDependency, Cycle, NotAnAncestor, NotADependent, BadExpression, BadTemplate, NotActive, NoSteps,
		MissingUpper, MissingLower, MissingDigit, MissingSpecial, CommonPassword,
		NotReady,
	}
}
