//! gzip as it is read (RFC 1952): flate2 inflates; the header before that and the length behind it are
//! looked at here. The checksum is not: TCP, TLS and the JSON itself have theirs, and its tables alone
//! would be a hundredth of the program.

use std::io::{self, BufReader, Error, ErrorKind, Read};

use flate2::bufread::DeflateDecoder;

// FLG
const FHCRC: u8 = 0x02;
const FEXTRA: u8 = 0x04;
const FNAME: u8 = 0x08;
const FCOMMENT: u8 = 0x10;

/// What a stream of gzip holds. A stream that ends too soon is `UnexpectedEof`, one that is wrong
/// `InvalidData`.
pub struct Gunzip<R: Read> {
    body: DeflateDecoder<BufReader<R>>,
    begun: bool,
    done: bool,
    /// Bytes so far, modulo 2³².
    len: u32,
}

impl<R: Read> Gunzip<R> {
    /// Reads nothing yet.
    pub fn new(from: R) -> Gunzip<R> {
        let body = DeflateDecoder::new(BufReader::new(from));
        Gunzip { body, begun: false, done: false, len: 0 }
    }

    fn header(&mut self) -> io::Result<()> {
        let from = self.body.get_mut();
        let mut head = [0; 10]; // ID1 ID2 CM FLG MTIME(4) XFL OS
        from.read_exact(&mut head)?;
        if head[..3] != [0x1f, 0x8b, 8] {
            return Err(wrong("it does not start as such"));
        }
        let flags = head[3];
        if flags & FEXTRA != 0 {
            let mut len = [0; 2];
            from.read_exact(&mut len)?;
            let len = u64::from(u16::from_le_bytes(len));
            io::copy(&mut from.take(len), &mut io::sink())?;
        }
        for text in [FNAME, FCOMMENT] {
            let mut byte = [u8::from(flags & text != 0)];
            while byte != [0] {
                from.read_exact(&mut byte)?;
            }
        }
        if flags & FHCRC != 0 {
            from.read_exact(&mut [0; 2])?;
        }
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        let mut tail = [0; 8]; // CRC32(4) ISIZE(4)
        self.body.get_mut().read_exact(&mut tail)?;
        let len = [tail[4], tail[5], tail[6], tail[7]];
        if u32::from_le_bytes(len) == self.len { Ok(()) } else { Err(wrong("its length differs")) }
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.header()?;
            self.begun = true;
        }
        if self.done || into.is_empty() {
            return Ok(0);
        }
        let read = self.body.read(into).map_err(|e| match e.kind() {
            ErrorKind::InvalidInput => wrong(&e.to_string()),
            _ => e,
        })?;
        self.len = self.len.wrapping_add(read as u32);
        if read == 0 {
            self.trailer()?;
            self.done = true;
        }
        Ok(read)
    }
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("it is no valid gzip: {why}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let named = GzBuilder::new().filename("a").comment("b").extra("cde");
        let mut writer = named.write(Vec::new(), Compression::default());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Gunzip::new(bytes).read_to_end(&mut text).map(|_| text)
    }

    #[test]
    fn what_was_packed_is_read_whatever_its_header_says() {
        for len in [0, 1, 70_000] {
            let text: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(i) >> 7) as u8).collect();
            assert_eq!(read(&packed(&text)).unwrap(), text);
        }
    }

    #[test]
    fn a_stream_that_is_cut_or_wrong_is_an_error() {
        let whole = packed(b"a text that is long enough to be cut in its middle");
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]).unwrap_err().kind(), ErrorKind::UnexpectedEof, "{len}");
        }
        let mut wrong = whole.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(
            read(&wrong).unwrap_err().to_string(),
            "it is no valid gzip: its length differs"
        );
        let plain = read(b"{\"kind\":\"NodeList\"}").unwrap_err();
        assert_eq!(plain.to_string(), "it is no valid gzip: it does not start as such");
    }
}
