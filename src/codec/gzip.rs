//! A gzip decoder (RFC 1952) that leaves integrity to TLS: the CRC-32 of the trailer is not verified.
//!
//! Over plain http nothing replaces the checksum: TCP's own is weak, and the JSON parser detects only
//! damage that breaks the syntax. The tables for the CRC alone would be a hundredth of the program.
//!
//! [`Gunzip`] parses the header (`read_header`), leaves the deflate stream (RFC 1951) to flate2, and
//! compares the length in the trailer with the number of bytes that came out (`check_trailer`).

use std::io::{self, BufReader, Error, ErrorKind, Read};

use flate2::bufread::DeflateDecoder;

// Bits of FLG, RFC 1952 section 2.3.1
const FHCRC: u8 = 0x02;
const FEXTRA: u8 = 0x04;
const FNAME: u8 = 0x08;
const FCOMMENT: u8 = 0x10;

/// A reader that yields the content of the first member of a gzip stream.
///
/// Reading fails with `UnexpectedEof` if the stream ends too early, and with `InvalidData` if the
/// stream is not valid gzip.
pub(crate) struct Gunzip<R: Read> {
    inflater: DeflateDecoder<BufReader<R>>,
    header_read: bool,
    finished: bool,
    /// Number of bytes inflated so far, modulo 2³², as ISIZE counts them.
    len: u32,
}

impl<R: Read> Gunzip<R> {
    /// Returns a decoder for `from`. Nothing is read before the first call of [`Read::read`].
    pub(crate) fn new(from: R) -> Gunzip<R> {
        let inflater = DeflateDecoder::new(BufReader::new(from));
        Gunzip { inflater, header_read: false, finished: false, len: 0 }
    }

    fn read_header(&mut self) -> io::Result<()> {
        let from = self.inflater.get_mut();
        let mut head = [0; 10]; // ID1 ID2 CM FLG MTIME(4) XFL OS
        from.read_exact(&mut head)?;
        if head[..3] != [0x1f, 0x8b, 8] {
            return Err(invalid("its header is not a gzip header"));
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

    fn check_trailer(&mut self) -> io::Result<()> {
        let mut tail = [0; 8]; // CRC32(4) ISIZE(4)
        self.inflater.get_mut().read_exact(&mut tail)?;
        let len = [tail[4], tail[5], tail[6], tail[7]];
        if u32::from_le_bytes(len) != self.len {
            return Err(invalid("its length differs from the length in its trailer"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.header_read {
            self.read_header()?;
            self.header_read = true;
        }
        if self.finished || into.is_empty() {
            return Ok(0);
        }
        let read = self.inflater.read(into).map_err(|e| match e.kind() {
            ErrorKind::InvalidInput => invalid(&e.to_string()),
            _ => e,
        })?;
        self.len = self.len.wrapping_add(read as u32);
        if read == 0 {
            self.check_trailer()?;
            self.finished = true;
        }
        Ok(read)
    }
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("it is not valid gzip: {why}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    fn compress(text: &[u8]) -> Vec<u8> {
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
    fn decompression_restores_the_data_with_any_optional_header_fields() {
        for len in [0, 1, 70_000] {
            let text: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(i) >> 7) as u8).collect();
            assert_eq!(read(&compress(&text)).unwrap(), text);
        }
    }

    #[test]
    fn truncated_or_invalid_streams_are_errors() {
        let whole = compress(b"a text that is long enough to be cut in its middle");
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]).unwrap_err().kind(), ErrorKind::UnexpectedEof, "{len}");
        }
        let mut wrong = whole.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(
            read(&wrong).unwrap_err().to_string(),
            "it is not valid gzip: its length differs from the length in its trailer"
        );
        let plain = read(b"{\"kind\":\"NodeList\"}").unwrap_err();
        assert_eq!(plain.to_string(), "it is not valid gzip: its header is not a gzip header");
    }
}
