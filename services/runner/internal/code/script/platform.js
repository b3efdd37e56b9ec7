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

	function report(error) { Promise.reject(error); } // as one that nobody handles

	let abort; // ends a signal

	class AbortSignal {
		#aborted = false; #reason; #listeners = [];
		onabort = null;
		static {
			abort = (signal, reason = new DOMException("This operation was aborted", "AbortError")) => {
				if (signal.#aborted) return;
				signal.#aborted = true;
				signal.#reason = reason;
				const event = { type: "abort", target: signal, currentTarget: signal };
				for (const call of [signal.onabort, ...signal.#listeners.splice(0)]) {
					try {
						if (typeof call === "function") call.call(signal, event);
						else call?.handleEvent?.(event);
					} catch (error) { report(error); }
				}
			};
		}
		static abort(reason) {
			const signal = new AbortSignal();
			abort(signal, reason);
			return signal;
		}
		static timeout(milliseconds) {
			const signal = new AbortSignal();
			native.setTimeout(() => abort(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError")), milliseconds);
			return signal;
		}
		static any(signals) {
			const any = new AbortSignal();
			for (const signal of [...signals]) {
				if (signal.aborted) abort(any, signal.reason);
				else signal.addEventListener("abort", () => abort(any, signal.reason));
			}
			return any;
		}
		get aborted() { return this.#aborted; }
		get reason() { return this.#reason; }
		throwIfAborted() { if (this.#aborted) throw this.#reason; }
		addEventListener(type, call) { if (type === "abort" && !this.#listeners.includes(call)) this.#listeners.push(call); }
		removeEventListener(type, call) { if (type === "abort") this.#listeners = this.#listeners.filter((other) => other !== call); }
		get [Symbol.toStringTag]() { return "AbortSignal"; }
	}

	class AbortController {
		#signal = new AbortSignal();
		get signal() { return this.#signal; }
		abort(reason) { abort(this.#signal, reason); }
		get [Symbol.toStringTag]() { return "AbortController"; }
	}

	const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

	class Headers {
		#list = []; // of names in lower case and values
		constructor(init) {
			if (init === undefined) return;
			if (typeof init !== "object" || init === null) throw new TypeError("Headers are made of an object, or of pairs");
			for (const pair of typeof init[Symbol.iterator] === "function" ? init : Object.entries(init)) {
				const both = [...pair];
				if (both.length !== 2) throw new TypeError("each pair of Headers has a name and a value");
				this.append(both[0], both[1]);
			}
		}
		#name(name) {
			if (!token.test(name)) throw new TypeError(`${String(name).slice(0, 100)} is no name of a header`);
			return String(name).toLowerCase();
		}
		#value(name, value) {
			value = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
			if (/[^\t -~\u0080-\u00ff]/.test(value)) throw new TypeError(`the value of the header ${name} has a line break, or a character beyond U+00FF`);
			return value;
		}
		append(name, value) { name = this.#name(name); this.#list.push([name, this.#value(name, value)]); }
		delete(name) { name = this.#name(name); this.#list = this.#list.filter(([n]) => n !== name); }
		get(name) {
			name = this.#name(name);
			const values = this.#list.filter(([n]) => n === name).map(([, v]) => v);
			return values.length ? values.join(", ") : null;
		}
		getSetCookie() { return this.#list.filter(([n]) => n === "set-cookie").map(([, v]) => v); }
		has(name) { name = this.#name(name); return this.#list.some(([n]) => n === name); }
		set(name, value) {
			name = this.#name(name);
			value = this.#value(name, value);
			const at = this.#list.findIndex(([n]) => n === name);
			if (at < 0) this.#list.push([name, value]);
			else {
				this.#list = this.#list.filter(([n], i) => i <= at || n !== name);
				this.#list[at] = [name, value];
			}
		}
		forEach(call, self) { for (const [name, value] of this) call.call(self, value, name, this); }
		*entries() {
			for (const name of [...new Set(this.#list.map(([n]) => n))].sort()) {
				if (name === "set-cookie") for (const value of this.getSetCookie()) yield [name, value];
				else yield [name, this.get(name)];
			}
		}
		*keys() { for (const [name] of this.entries()) yield name; }
		*values() { for (const [, value] of this.entries()) yield value; }
		[Symbol.iterator]() { return this.entries(); }
		get [Symbol.toStringTag]() { return "Headers"; }
	}

	// sent gives a body as a buffer of its own, and its content type; null for none.
	function sent(body) {
		if (body === undefined || body === null) return [null, null];
		if (body instanceof URLSearchParams) return [native.encodeUTF8(body.toString()), "application/x-www-form-urlencoded;charset=UTF-8"];
		if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return [bufferOf(body, "body"), null];
		const text = String(body);
		if (text === "[object Object]") throw new TypeError("the body is an object; send JSON.stringify(...) of it");
		return [native.encodeUTF8(text), "text/plain;charset=UTF-8"];
	}

	let answer; // makes the Response of a fetch

	class Response {
		#body; #status; #statusText; #headers; #used = false; #url = ""; #redirected = false;
		static {
			answer = ({ status, statusText, url, redirected, headers }, body) => {
				const response = new Response(null, { statusText, headers });
				response.#status = status;
				response.#body = body;
				response.#url = url;
				response.#redirected = redirected;
				return response;
			};
		}
		constructor(body = null, { status = 200, statusText = "", headers } = {}) {
			if (!(status >= 200 && status <= 599)) throw new RangeError(`the status is ${status}; give one from 200 to 599`);
			const [bytes, type] = sent(body);
			this.#body = bytes ?? new ArrayBuffer(0);
			this.#status = Math.trunc(status);
			this.#statusText = String(statusText);
			this.#headers = new Headers(headers);
			if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
		}
		#read() {
			if (this.#used) throw new TypeError("the body has been read already; keep what it gave, or clone the response first");
			this.#used = true;
			return this.#body;
		}
		get status() { return this.#status; }
		get statusText() { return this.#statusText; }
		get ok() { return this.#status >= 200 && this.#status <= 299; }
		get headers() { return this.#headers; }
		get url() { return this.#url; }
		get redirected() { return this.#redirected; }
		get type() { return this.#url ? "basic" : "default"; }
		get bodyUsed() { return this.#used; }
		async arrayBuffer() { return this.#read(); }
		async bytes() { return new Uint8Array(this.#read()); }
		async text() { return new TextDecoder().decode(this.#read()); }
		async json() { return JSON.parse(await this.text()); }
		clone() {
			if (this.#used) throw new TypeError("the body has been read already");
			return answer({ status: this.#status, statusText: this.#statusText, url: this.#url, redirected: this.#redirected, headers: this.#headers }, this.#body.slice(0));
		}
		get [Symbol.toStringTag]() { return "Response"; }
	}

	const refused = /^(connect|trace|track)$/i, upper = /^(delete|get|head|options|post|put)$/i;

	async function fetch(input, init) {
		const { method: given = "GET", headers: fields, body, redirect = "follow", signal } = init ?? {};
		const url = new URL(String(input));
		if (url.protocol !== "http:" && url.protocol !== "https:") throw new TypeError(`fetch takes http and https, not ${url.protocol}`);
		if (url.username || url.password) throw new TypeError("fetch takes no URL with a user; send the header Authorization");
		url.hash = "";
		const method = upper.test(given) ? String(given).toUpperCase() : String(given);
		if (!token.test(method) || refused.test(method)) throw new TypeError(`fetch takes no method ${method.slice(0, 100)}`);
		if (!["follow", "error", "manual"].includes(redirect)) throw new TypeError("redirect is follow, error or manual");
		const headers = new Headers(fields ?? undefined);
		const [bytes, type] = sent(body);
		if (bytes && (method === "GET" || method === "HEAD")) throw new TypeError(`a ${method} has no body; use another method`);
		if (type && !headers.has("content-type")) headers.set("content-type", type);
		signal?.throwIfAborted();
		return new Promise((resolve, reject) => {
			const ended = () => { native.abort(id); reject(signal.reason); };
			const id = native.fetch(method, url.href, [...headers], redirect, bytes, (error, head, data) => {
				signal?.removeEventListener("abort", ended);
				if (error) reject(error);
				else resolve(answer(head, data));
			});
			signal?.addEventListener("abort", ended);
		});
	}

	return { AbortController, AbortSignal, DOMException, Headers, Response, TextDecoder, TextEncoder, URL, URLSearchParams, atob, btoa, crypto, fetch, queueMicrotask, structuredClone };
})
