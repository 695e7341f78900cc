//! `hash::`: digests, signatures, encodings and ids.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhai::{Dynamic, Module};
use sha2::{Digest, Sha256};

use super::{add, wrong};
use crate::script::{Native, go_on, reserve};

/// How many bytes are gone through between two looks at the clock. As many groups of three as base64 makes of them.
const STEP: usize = 48 << 10;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    add(
        &mut module,
        "sha256(data: string | blob) -> string",
        "SHA-256 in hex: `hash::sha256(\"abc\")`.",
        |data: Dynamic| -> Native<String> {
            with_bytes(&data, "hash::sha256", |data| digest(Sha256::new(), data).map(|digest| hex(&digest)))
        },
    );
    add(
        &mut module,
        "hmac_sha256(key: string | blob, data: string | blob) -> string",
        "HMAC with SHA-256 in hex, as webhooks are signed: `hash::hmac_sha256(secret, body)`.",
        |key: Dynamic, data: Dynamic| -> Native<String> {
            let what = "hash::hmac_sha256";
            with_bytes(&key, what, |key| with_bytes(&data, what, |data| hmac(key, data).map(|digest| hex(&digest))))
        },
    );
    add(
        &mut module,
        "base64(data: string | blob) -> string",
        "Encodes as base64 with padding: `hash::base64(\"hello\")`.",
        |data: Dynamic| -> Native<String> { with_bytes(&data, "hash::base64", encode) },
    );
    add(
        &mut module,
        "unbase64(text: string) -> string",
        "Decodes base64 of a text in UTF-8: `hash::unbase64(\"aGVsbG8=\")`.",
        |text: &str| -> Native<String> {
            let bytes = STANDARD
                .decode(text)
                .map_err(|error| wrong("ValueError", format!("`hash::unbase64`: not base64: {error}")))?;
            String::from_utf8(bytes).map_err(|_| wrong("ValueError", "`hash::unbase64`: the bytes are no UTF-8 text"))
        },
    );
    add(&mut module, "uuid() -> string", "A random UUID, version 4: `hash::uuid()`.", || {
        uuid::Uuid::new_v4().to_string()
    });
    module
}

fn with_bytes<T>(data: &Dynamic, what: &str, act: impl FnOnce(&[u8]) -> Native<T>) -> Native<T> {
    if let Ok(text) = data.as_immutable_string_ref() {
        return act(text.as_bytes());
    }
    match data.as_blob_ref() {
        Ok(blob) => act(&blob),
        Err(kind) => Err(wrong("TypeError", format!("`{what}` takes a string or a blob, not {kind}"))),
    }
}

/// The digest of `data` behind what `begun` has seen.
fn digest(mut begun: Sha256, data: &[u8]) -> Native<[u8; 32]> {
    for piece in data.chunks(STEP) {
        go_on()?;
        begun.update(piece);
    }
    Ok(begun.finalize().into())
}

/// RFC 2104.
fn hmac(key: &[u8], data: &[u8]) -> Native<[u8; 32]> {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&digest(Sha256::new(), key)?);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
    let inner = digest(padded(0x36), data)?;
    digest(padded(0x5c), &inner)
}

fn encode(data: &[u8]) -> Native<String> {
    reserve(data.len() / 3 * 4)?;
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for piece in data.chunks(STEP) {
        go_on()?;
        STANDARD.encode_string(piece, &mut text);
    }
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use crate::module::tests::{Room, evaluate, fails};

    #[test]
    fn digests_are_those_of_the_standards() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(evaluate(r#"hash::sha256("abc")"#), format!("\"{abc}\""));
        // RFC 4231, cases 2 and 6.
        let short = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(evaluate(r#"hash::hmac_sha256("Jefe", "what do ya want for nothing?")"#), format!("\"{short}\""));
        let long = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let script = r#"hash::hmac_sha256(blob(131, 0xaa), "Test Using Larger Than Block-Size Key - Hash Key First")"#;
        assert_eq!(evaluate(script), format!("\"{long}\""));
    }

    #[test]
    fn base64_goes_both_ways() {
        assert_eq!(evaluate(r#"hash::unbase64(hash::base64("한글"))"#), "\"한글\"");
        let long = "let t = \"\"; t.pad(100000, \"한글\"); hash::unbase64(hash::base64(t)) == t";
        assert_eq!(evaluate(long), "true");
        assert_eq!(fails(r#"hash::unbase64("*")"#).exc_type, "ValueError");
        assert_eq!(fails("hash::base64(5)").exc_type, "TypeError");
    }

    #[test]
    fn a_long_text_is_digested_as_a_whole() {
        let script = r#"let t = ""; t.pad(100000, "a"); hash::sha256(t)"#;
        let expected = super::hex(&Sha256::digest("a".repeat(100_000)));
        assert_eq!(evaluate(script), format!("\"{expected}\""));
    }

    #[test]
    fn going_through_a_large_text_meets_the_time_limit() {
        for call in ["hash::sha256(t)", "hash::hmac_sha256(t, t)", "hash::base64(t)"] {
            Room::is_stopped_in_time(&format!(r#"let t = "a"; for _i in 0..24 {{ t += t; }} loop {{ {call}; }}"#));
        }
    }

    #[test]
    fn ids_differ() {
        assert_eq!(evaluate("hash::uuid() == hash::uuid()"), "false");
    }
}
