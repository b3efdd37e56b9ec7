// What the platforms of JavaScript have beside the language. native has what is done in Go.
(function (native) {
	"use strict";

	// bytesOf gives the bytes of a buffer, or of a view of one.
	function bytesOf(data, what) {
		if (data instanceof ArrayBuffer) return new Uint8Array(data);
		if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
		throw new TypeError(`${what} takes an ArrayBuffer, a typed array or a DataView`);
	}

	// bufferOf gives them as a buffer of their own.
	function bufferOf(data, what) {
		const bytes = bytesOf(data, what);
		return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
	}

	class DOMException extends Error {
		#name;
		constructor(message = "", name = "Error") { super(message); this.#name = name; }
		get name() { return this.#name; }
	}

	class TextEncoder {
		get encoding() { return "utf-8"; }
		encode(text = "") { return new Uint8Array(native.encodeUTF8(String(text))); }
		encodeInto(text, into) {
			let read = 0, written = 0;
			for (const character of String(text)) {
				const bytes = this.encode(character);
				if (written + bytes.length > into.length) break;
				into.set(bytes, written);
				read += character.length;
				written += bytes.length;
			}
			return { read, written };
		}
	}

	class TextDecoder {
		#fatal; #ignoreBOM;
		constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
			if (!["utf-8", "utf8", "unicode-1-1-utf-8"].includes(String(label).trim().toLowerCase())) throw new RangeError(`the encoding ${label} is not known; use utf-8`);
			this.#fatal = Boolean(fatal);
			this.#ignoreBOM = Boolean(ignoreBOM);
		}
		get encoding() { return "utf-8"; }
		get fatal() { return this.#fatal; }
		get ignoreBOM() { return this.#ignoreBOM; }
		decode(data = new ArrayBuffer(0), { stream = false } = {}) {
			if (stream) throw new TypeError("a TextDecoder decodes all at once here; put the parts together first");
			const text = native.decodeUTF8(bufferOf(data, "decode"), this.#fatal);
			if (text === undefined) throw new TypeError("the data is no UTF-8");
			return !this.#ignoreBOM && text.startsWith("\uFEFF") ? text.slice(1) : text;
		}
	}

	class URLSearchParams {
		#list = [];
		#changed = () => {};
		constructor(init = "") {
			if (typeof init === "function" && init.of instanceof URL) { // a URL's own
				this.#list = native.parseForm(init.query);
				this.#changed = init;
			} else if (init !== null && (typeof init === "object" || typeof init === "function")) {
				const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
				for (const pair of pairs) {
					const both = [...pair];
					if (both.length !== 2) throw new TypeError("each pair of URLSearchParams has a name and a value");
					this.#list.push([native.wellFormed(String(both[0])), native.wellFormed(String(both[1]))]);
				}
			} else {
				this.#list = native.parseForm(String(init).replace(/^\?/, ""));
			}
		}
		get size() { return this.#list.length; }
		append(name, value) { this.#list.push([native.wellFormed(String(name)), native.wellFormed(String(value))]); this.#changed(this); }
		delete(name, value) {
			this.#list = this.#list.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value)));
			this.#changed(this);
		}
		get(name) { return this.#list.find(([n]) => n === String(name))?.[1] ?? null; }
		getAll(name) { return this.#list.filter(([n]) => n === String(name)).map(([, v]) => v); }
		has(name, value) { return this.#list.some(([n, v]) => n === String(name) && (value === undefined || v === String(value))); }
		set(name, value) {
			const at = this.#list.findIndex(([n]) => n === String(name));
			if (at < 0) return this.append(name, value);
			this.#list = this.#list.filter(([n], i) => i <= at || n !== String(name));
			this.#list[at] = [this.#list[at][0], native.wellFormed(String(value))];
			this.#changed(this);
		}
		sort() { this.#list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)); this.#changed(this); }
		forEach(call, self) { for (const [name, value] of this) call.call(self, value, name, this); }
		*entries() { for (let i = 0; i < this.#list.length; i++) yield [...this.#list[i]]; }
		*keys() { for (const [name] of this.entries()) yield name; }
		*values() { for (const [, value] of this.entries()) yield value; }
		[Symbol.iterator]() { return this.entries(); }
		toString() { return native.formatForm(this.#list); }
		get [Symbol.toStringTag]() { return "URLSearchParams"; }
	}

	class URL {
		#parts; #params;
		constructor(url, base) {
			this.#parts = native.parseURL(String(url), base === undefined ? null : String(base));
			if (!this.#parts) throw new TypeError(`Invalid URL: ${String(url).slice(0, 100)}`);
		}
		static canParse(url, base) { return native.parseURL(String(url), base === undefined ? null : String(base)) !== undefined; }
		static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
		#change(part, value) { this.#parts = native.changeURL(this.#parts.href, part, String(value)) ?? this.#parts; }
		get href() { return this.#parts.href; }
		set href(value) { this.#parts = new URL(value).#parts; this.#params = undefined; }
		get origin() { return this.#parts.origin; }
		get protocol() { return this.#parts.protocol; }
		set protocol(value) { this.#change("protocol", value); }
		get username() { return this.#parts.username; }
		set username(value) { this.#change("username", value); }
		get password() { return this.#parts.password; }
		set password(value) { this.#change("password", value); }
		get host() { return this.#parts.host; }
		set host(value) { this.#change("host", value); }
		get hostname() { return this.#parts.hostname; }
		set hostname(value) { this.#change("hostname", value); }
		get port() { return this.#parts.port; }
		set port(value) { this.#change("port", value); }
		get pathname() { return this.#parts.pathname; }
		set pathname(value) { this.#change("pathname", value); }
		get search() { return this.#parts.search; }
		set search(value) { this.#change("search", value); this.#params = undefined; }
		get hash() { return this.#parts.hash; }
		set hash(value) { this.#change("hash", value); }
		get searchParams() {
			if (!this.#params) {
				const changed = (params) => this.#change("search", params.toString());
				changed.of = this;
				changed.query = this.#parts.search.slice(1);
				this.#params = new URLSearchParams(changed);
			}
			return this.#params;
		}
		toString() { return this.href; }
		toJSON() { return this.href; }
		get [Symbol.toStringTag]() { return "URL"; }
	}

	const errors = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

	function structuredClone(value) {
		const made = new Map();
		const refuse = (what) => { throw new DOMException(`${what} can not be cloned`, "DataCloneError"); };
		const keep = (from, to) => { made.set(from, to); return to; };
		const clone = (v) => {
			if (typeof v === "function" || typeof v === "symbol") refuse(`a ${typeof v}`);
			if (typeof v !== "object" || v === null) return v;
			if (made.has(v)) return made.get(v);
			if (v instanceof Date) return keep(v, new Date(v.getTime()));
			if (v instanceof RegExp) return keep(v, new RegExp(v.source, v.flags));
			if (v instanceof Boolean || v instanceof Number || v instanceof String) return keep(v, Object(v.valueOf()));
			if (v instanceof ArrayBuffer) return keep(v, v.slice(0));
			if (ArrayBuffer.isView(v)) return keep(v, new v.constructor(clone(v.buffer), v.byteOffset, v instanceof DataView ? v.byteLength : v.length));
			if (v instanceof Map) {
				const copy = keep(v, new Map());
				for (const [key, item] of [...v]) copy.set(clone(key), clone(item));
				return copy;
			}
			if (v instanceof Set) {
				const copy = keep(v, new Set());
				for (const item of [...v]) copy.add(clone(item));
				return copy;
			}
			if (v instanceof Error) {
				const copy = keep(v, Object.create((errors[v.name] ?? Error).prototype));
				for (const name of ["message", "stack", "cause"]) {
					if (Object.hasOwn(v, name)) Object.defineProperty(copy, name, { value: clone(v[name]), writable: true, configurable: true });
				}
				return copy;
			}
			if (v instanceof Promise || v instanceof WeakMap || v instanceof WeakSet) refuse("such an object");
			const copy = keep(v, Array.isArray(v) ? new Array(v.length) : {});
			for (const name of Object.keys(v)) Object.defineProperty(copy, name, { value: clone(v[name]), writable: true, enumerable: true, configurable: true });
			return copy;
		};
		return clone(value);
	}

	const maxRandom = 65536;
	const integers = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];

	const crypto = {
		randomUUID() { return native.randomUUID(); },
		getRandomValues(array) {
			if (!integers.some((type) => array instanceof type)) throw new DOMException("getRandomValues takes a typed array of integers", "TypeMismatchError");
			if (array.byteLength > maxRandom) throw new DOMException(`getRandomValues gives ${maxRandom} bytes at most`, "QuotaExceededError");
			bytesOf(array, "getRandomValues").set(new Uint8Array(native.random(array.byteLength)));
			return array;
		},
		subtle: {
			async digest(algorithm, data) {
				const name = String(algorithm?.name ?? algorithm).toUpperCase();
				const sum = native.digest(name, bufferOf(data, "digest"));
				if (!sum) throw new DOMException(`the digest ${name} is not known; use SHA-1, SHA-256, SHA-384 or SHA-512`, "NotSupportedError");
				return sum;
			},
		},
	};

	function atob(text) {
		const bytes = native.decodeBase64(String(text).replace(/[\t\n\f\r ]/g, ""));
		if (!bytes) throw new DOMException("the text is no base64", "InvalidCharacterError");
		let decoded = "";
		for (const byte of new Uint8Array(bytes)) decoded += String.fromCharCode(byte);
		return decoded;
	}

	function btoa(text) {
		text = String(text);
		const bytes = new Uint8Array(text.length);
		for (let i = 0; i < text.length; i++) {
			bytes[i] = text.charCodeAt(i);
			if (text.charCodeAt(i) > 255) throw new DOMException("btoa takes characters up to U+00FF", "InvalidCharacterError");
		}
		return native.encodeBase64(bytes.buffer);
	}

	function queueMicrotask(call) {
		if (typeof call !== "function") throw new TypeError("queueMicrotask needs a function");
		Promise.resolve().then(() => call());
	}

	return { DOMException, TextDecoder, TextEncoder, URL, URLSearchParams, atob, btoa, crypto, queueMicrotask, structuredClone };
})
