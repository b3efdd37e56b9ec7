// Each case gives a value that every platform gives; a thrown error counts by its name. platform.json is made of it by
//   node -e "$(cat platform.js); handler().then(v => console.log('{\n' + Object.entries(v).map(([k, x]) => '  ' + JSON.stringify(k) + ': ' + JSON.stringify(x)).join(',\n') + '\n}'))"
const cases = {
	"url parts": () => { const u = new URL("HTTPS://ada:s%20x@Example.COM:8443/a/../b c?q=1&r=ä#frag"); return ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"].map((p) => u[p]); },
	"url default port": () => new URL("https://a:443/").href,
	"url base": () => [new URL("../x?y", "http://a/b/c/d").href, new URL("//h/p", "https://a").href, new URL("http://b", "http://a").href],
	"url invalid": () => ["", "/a", "http://", "http://a:99999", "http://[::1", "http://a b"].map((u) => URL.canParse(u)),
	"url throws": () => new URL("/a"),
	"url IPv4": () => ["http://0x7f.1/", "http://2130706433/", "http://017700000001/"].map((u) => new URL(u).hostname),
	"url IPv6": () => new URL("http://[0:0::1]:80/").host,
	"url IDN": () => new URL("http://bücher.example/").hostname,
	"url other schemes": () => ["mailto:a@b", "data:text/plain,x y", "file:///a/b", "blob:https://a/b"].map((u) => { const x = new URL(u); return [x.href, x.pathname, x.protocol]; }),
	"url setters": () => { const u = new URL("http://a/b?c#d"); u.protocol = "https"; u.host = "x.y:81"; u.pathname = "p q"; u.search = "s=1"; u.hash = ""; u.username = "me"; u.password = "p@"; const first = u.href; u.port = "443"; u.hostname = "z"; u.port = "x"; return [first, u.href]; },
	"url href setter": () => { const u = new URL("http://a/?b=1"); u.searchParams; u.href = "http://c/?d=2"; try { u.href = "nothing"; } catch (e) { return [u.href, u.searchParams.get("d"), e.name]; } },
	"url searchParams": () => { const u = new URL("http://a/?b=1&b=2"); u.searchParams.append("c d", "é&="); u.searchParams.delete("b", "1"); const first = u.href; u.search = "?z=9"; return [first, u.searchParams.get("z"), u.searchParams === u.searchParams, u.search]; },
	"url as text": () => [String(new URL("http://a")), JSON.stringify({ u: new URL("http://a/b") }), Object.prototype.toString.call(new URL("http://a"))],
	"params of text": () => [...new URLSearchParams("?a=1&b=%20x+y&c&=d&%zz=%E4&&a=2")],
	"params of pairs": () => [new URLSearchParams([["a", 1], ["b", "x y"]]).toString(), new URLSearchParams({ a: 1, "b~*": "é" }).toString(), new URLSearchParams(new Map([["k", "v"]])).toString(), new URLSearchParams(new URLSearchParams("q=1")).toString()],
	"params of wrong pairs": () => new URLSearchParams([["a"]]),
	"params methods": () => { const p = new URLSearchParams("b=2&a=1&b=3&c=4"); const seen = []; p.forEach((v, k, own) => seen.push(k + v + (own === p))); p.set("b", "9"); p.set("n", "new"); p.sort(); return [seen, p.toString(), p.get("x"), p.getAll("b"), p.has("c"), p.has("c", "5"), p.size, [...p.keys()], [...p.values()], [...p.entries()]]; },
	"params of half a character": () => { const p = new URLSearchParams([["a\ud800", "b"]]); p.append("c", "\udc00"); return [[...p], p.toString()]; },
	"params escapes": () => new URLSearchParams([["a", " !'()*-._~+%&=\u0000é🐈"]]).toString(),
	"encode": () => [...new TextEncoder().encode("aé🐈\ud800")],
	"encode nothing": () => [new TextEncoder().encode().length, new TextEncoder().encoding],
	"encodeInto": () => { const into = new Uint8Array(4); return [new TextEncoder().encodeInto("aé🐈", into), [...into]]; },
	"decode": () => [new TextDecoder().decode(new Uint8Array([97, 195, 169, 240, 159, 144, 136])), new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 97])), new TextDecoder("utf8", { ignoreBOM: true }).decode(new Uint8Array([0xef, 0xbb, 0xbf, 97])).length],
	"decode parts": () => [new TextDecoder().decode(new Uint8Array([1, 2, 97, 98]).subarray(2)), new TextDecoder().decode(new DataView(new Uint8Array([97, 98, 99]).buffer, 1, 1)), new TextDecoder().decode(new Uint16Array([0x6261])), new TextDecoder().decode()],
	"decode what is cut": () => [[255, 97], [0xf0, 0x9f, 0x90], [0xf0, 0x9f, 0x41], [0xe2, 0x82, 0xe2, 0x82, 0xac], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]].map((b) => new TextDecoder().decode(new Uint8Array(b))),
	"decode fatal": () => new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([255])),
	"decode unknown": () => new TextDecoder("nonsense"),
	"base64": () => [btoa(""), btoa("a"), btoa("ab\u00ff"), atob("YQ=="), atob("YQ"), atob(" Y Q = = "), atob("/+8=").split("").map((c) => c.charCodeAt(0))],
	"btoa of more": () => btoa("€"),
	"btoa beyond": () => btoa("🐈"),
	"atob of none": () => ["Y", "YQ=", "Y===", "====", "a-b_", "YQ==Y"].map((s) => { try { return atob(s); } catch (e) { return e.name; } }),
	"clone data": () => { const v = { a: [1, , null, undefined], d: new Date(5), r: /x/gi, m: new Map([[{ k: 1 }, new Set([1, "2"])]]), n: new Number(3), u: undefined, b: 10n > 5n, "__proto__x": 1 }; const c = structuredClone(v); return [c, c !== v, c.a.length, 1 in c.a, c.d.getTime(), c.d instanceof Date, String(c.r), [...c.m.keys()][0], [...[...c.m.values()][0]], typeof c.n, "u" in c]; },
	"clone cycles": () => { const v = { n: 1 }; v.self = v; v.list = [v]; const c = structuredClone(v); return [c.self === c, c.list[0] === c, c !== v]; },
	"clone shared": () => { const s = { x: 1 }; const c = structuredClone([s, s]); return c[0] === c[1]; },
	"clone bytes": () => { const b = new Uint8Array([1, 2, 3, 4]); const c = structuredClone({ b: b.subarray(1, 3), d: new DataView(b.buffer, 2), buffer: b.buffer }); return [[...c.b], c.b.byteOffset, c.d.getUint8(0), c.b.buffer === c.buffer, c.buffer !== b.buffer]; },
	"clone errors": () => { const c = structuredClone(new RangeError("far", { cause: { n: 1 } })); return [c instanceof RangeError, c.message, c.cause, c.name]; },
	"clone classes": () => { class Point { constructor() { this.x = 1; } get y() { return 2; } } const c = structuredClone(new Point()); return [c, c.constructor === Object]; },
	"clone functions": () => [() => 1, Symbol("s"), { f() {} }, Promise.resolve(), new WeakMap()].map((v) => { try { return structuredClone(v); } catch (e) { return [e.name, e instanceof DOMException]; } }),
	"digest": async () => { const out = []; for (const a of ["SHA-1", "sha-256", { name: "SHA-384" }, "SHA-512"]) out.push([...new Uint8Array(await crypto.subtle.digest(a, new TextEncoder().encode("abc")))].map((b) => b.toString(16).padStart(2, "0")).join("")); return out; },
	"digest of a part": async () => (await crypto.subtle.digest("SHA-256", new Uint8Array([1, 2, 3]).subarray(1))).byteLength,
	"digest unknown": () => crypto.subtle.digest("MD5", new Uint8Array()),
	"microtasks": async () => { const seen = []; queueMicrotask(() => seen.push("micro")); setTimeout(() => seen.push("timer"), 0); seen.push("now"); await new Promise((done) => setTimeout(done, 2)); return seen; },
	"microtask of nothing": () => queueMicrotask(1),
	"exceptions": () => { const e = new DOMException("m", "N"); return [e.name, e.message, e instanceof Error, new DOMException().name]; },
};

async function handler() {
	const values = {};
	for (const [name, value] of Object.entries(cases)) {
		try {
			values[name] = (await value()) ?? null;
		} catch (e) {
			values[name] = "throws " + e.name;
		}
	}
	return values;
}
