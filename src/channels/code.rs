//! Close codes: RFC 6455's, and ours between 4400 and 4499, after which a client may reconnect.

/// The script ended the socket and named no other code.
pub const NORMAL: u16 = 1000;
/// The server stops.
pub const GOING_AWAY: u16 = 1001;
/// Never on the wire: the client's close frame had no code.
pub const NO_CODE: u16 = 1005;
/// Never on the wire: the connection ended without a close frame.
pub const VANISHED: u16 = 1006;
/// A frame was larger than the server reads.
pub const TOO_BIG: u16 = 1009;
/// The consumer's script failed too often.
pub const SCRIPT_ERRORS: u16 = 1011;
/// Too many frames were no JSON objects.
pub const BAD_FRAMES: u16 = 4400;
/// The socket did not keep up with what it was sent.
pub const SLOW: u16 = 4410;

/// What a close frame with `code` says in words.
pub fn reason(code: u16) -> &'static str {
    match code {
        GOING_AWAY => "the server is stopping",
        TOO_BIG => "the frame is too big",
        SCRIPT_ERRORS => "the consumer failed",
        BAD_FRAMES => "a frame must be a JSON object",
        SLOW => "the client is too slow",
        _ => "",
    }
}
