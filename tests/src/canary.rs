//! Looks for planted secrets in everything that was written or answered.

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result, ensure};
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// A planted secret, and the only places that may hold it.
#[derive(Clone, Debug)]
pub struct Canary {
    /// What it is, for messages.
    pub name: String,
    /// The files that hold it, and must.
    pub files: Vec<PathBuf>,
    /// The requests whose answers show it, such as `POST /api/enrolments`.
    pub answers: Vec<String>,
    /// Every way in which it could have been written down.
    forms: BTreeSet<Vec<u8>>,
}

impl Canary {
    /// A secret text that only these files hold.
    #[must_use]
    pub fn new(name: &str, secret: &str, files: &[PathBuf]) -> Self {
        let mut forms = forms_of_text(secret);
        forms.append(&mut forms_of_bytes(secret.as_bytes()));
        Self { name: name.to_owned(), files: files.to_vec(), answers: Vec::new(), forms }
    }

    /// A secret that is bytes rather than text, that only these files hold.
    #[must_use]
    pub fn of_bytes(name: &str, secret: &[u8], files: &[PathBuf]) -> Self {
        let forms = forms_of_bytes(secret);
        Self { name: name.to_owned(), files: files.to_vec(), answers: Vec::new(), forms }
    }

    /// A private key, as PKCS #8 in DER, that only these files hold. Its public half lies in many
    /// places and is not looked for.
    ///
    /// # Errors
    /// When it is no key of 32 bytes.
    pub fn of_key(name: &str, der: &[u8], files: &[PathBuf]) -> Result<Self> {
        // An octet string of 32 bytes: the private half, in the keys of both kinds that are in use.
        let start = der.windows(2).position(|pair| pair == [0x04, 0x20]).map(|at| at + 2);
        let private = start.and_then(|start| der.get(start..start + 32));
        let private = private.with_context(|| format!("{name} is no key of 32 bytes"))?;
        let mut canary = Self::of_bytes(name, private, files);
        // In PEM the private half is broken into two lines; the first of them is like no other
        // key's, and comes along with the second.
        let line = BASE64.encode(der.get(..48).context("the key is too short")?);
        canary.forms.insert(line.into_bytes());
        Ok(canary)
    }

    /// The same secret, which the answers to this request show as well.
    #[must_use]
    pub fn shown_by(mut self, request: &str) -> Self {
        self.answers.push(request.to_owned());
        self
    }
}

fn forms_of_text(secret: &str) -> BTreeSet<Vec<u8>> {
    let json = serde_json::Value::from(secret).to_string();
    let percent: String = secret
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    let mut forms = BTreeSet::from([
        json.trim_matches('"').as_bytes().to_vec(),
        percent.to_lowercase().into_bytes(),
        percent.into_bytes(),
        secret.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ]);
    // The random tail by itself: what is left when a part of the secret was cut or re-encoded.
    if let Some((_, tail)) = secret.rsplit_once('#') {
        forms.insert(tail.as_bytes().to_vec());
    }
    forms
}

fn forms_of_bytes(secret: &[u8]) -> BTreeSet<Vec<u8>> {
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = BTreeSet::from([
        secret.to_vec(),
        HEXLOWER.encode(secret).into_bytes(),
        HEXUPPER.encode(secret).into_bytes(),
        // As serde and as `Debug` write bytes down.
        numbers.join(",").into_bytes(),
        numbers.join(", ").into_bytes(),
    ]);
    for offset in 0..3 {
        forms.insert(inside_base64(&BASE64_NOPAD, secret, offset));
        forms.insert(inside_base64(&BASE64URL_NOPAD, secret, offset));
    }
    forms
}

/// What these bytes look like in the base64 of something that holds them after `offset` other bytes
/// (or three more, or six …). The characters that depend on their neighbours are left out.
fn inside_base64(encoding: &Encoding, secret: &[u8], offset: usize) -> Vec<u8> {
    let padded = [&[0].repeat(offset), secret].concat();
    let text = encoding.encode(&padded).into_bytes();
    let start = [0, 2, 3][offset];
    let end = padded.len() * 8 / 6;
    text[start..end].to_vec()
}

/// Finds all secrets in one pass over the bytes.
pub(crate) struct Finder<'a> {
    search: AhoCorasick,
    /// The secret that each pattern is a form of.
    of: Vec<&'a Canary>,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(canaries: &'a [Canary]) -> Result<Self> {
        let mut forms = Vec::new();
        let mut of = Vec::new();
        for canary in canaries {
            for form in &canary.forms {
                ensure!(form.len() >= 8, "{} is too short to be looked for", canary.name);
                forms.push(form);
                of.push(canary);
            }
        }
        Ok(Self { search: AhoCorasick::new(forms)?, of })
    }

    pub(crate) fn in_bytes(&self, bytes: &[u8]) -> Vec<&'a Canary> {
        let mut found: Vec<&Canary> = self
            .search
            .find_overlapping_iter(bytes)
            .map(|hit| self.of[hit.pattern().as_usize()])
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        found
    }
}

/// An answer of the manager's, with its headers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and path of the request.
    pub to: String,
    /// What came back.
    pub bytes: Vec<u8>,
}

/// Looks into answers and returns a sentence for each secret that is in one where it must not be.
///
/// # Errors
/// When there are no secrets to look for, or no answers, or one that must show a secret does not.
pub fn search_answers(answers: &[Answer], canaries: &[Canary]) -> Result<Vec<String>> {
    ensure!(!answers.is_empty(), "there are no answers to look into");
    let finder = Finder::new(canaries)?;
    let (mut found, mut shown) = (Vec::new(), BTreeSet::new());
    for answer in answers {
        for canary in finder.in_bytes(&answer.bytes) {
            if canary.answers.contains(&answer.to) {
                shown.insert((&canary.name, &answer.to));
            } else {
                found.push(format!("{} is in the answer to {}", canary.name, answer.to));
            }
        }
    }
    for canary in canaries {
        for to in &canary.answers {
            let is_shown = shown.contains(&(&canary.name, to));
            ensure!(is_shown, "{} is not in the answer to {to}, which must show it", canary.name);
        }
    }
    Ok(found)
}

/// The names of the secrets that stand in these bytes, in any form.
///
/// # Errors
/// When there are no secrets to look for.
pub fn find(bytes: &[u8], canaries: &[Canary]) -> Result<Vec<String>> {
    let finder = Finder::new(canaries)?;
    Ok(finder.in_bytes(bytes).into_iter().map(|canary| canary.name.clone()).collect())
}

/// Looks into every file below `root` and returns a sentence for each secret that lies where it must
/// not.
///
/// # Errors
/// When there are no secrets to look for, when a file cannot be read, or when a secret is not where
/// it must be: then the search would not find it anywhere.
pub fn search(root: &Path, canaries: &[Canary]) -> Result<Vec<String>> {
    let finder = Finder::new(canaries)?;
    let (mut found, mut in_place) = (Vec::new(), BTreeSet::new());
    for entry in walkdir::WalkDir::new(root) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.io_error().is_some_and(has_vanished) => continue,
            Err(error) => return Err(error.into()),
        };
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if has_vanished(&error) => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        for canary in finder.in_bytes(&bytes) {
            if canary.files.iter().any(|file| file == path) {
                in_place.insert((&canary.name, path.to_owned()));
            } else {
                found.push(format!("{} is in {}", canary.name, path.display()));
            }
        }
    }
    for canary in canaries {
        for file in &canary.files {
            let is_there = in_place.contains(&(&canary.name, file.clone()));
            ensure!(is_there, "{} is not in {}, where it must be", canary.name, file.display());
        }
    }
    Ok(found)
}

/// Programs that run put files away while the search goes on.
fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_only_where_it_is_not_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = crate::planted_secret("pass\"word");
        let allowed = dir.path().join("allowed");
        let canary = Canary::new("the password", &secret, std::slice::from_ref(&allowed));
        fs::write(&allowed, &secret).unwrap();
        for (index, form) in canary.forms.iter().enumerate() {
            let path = dir.path().join(format!("form-{index}"));
            fs::write(&path, [b"xx".as_slice(), form, b"yy"].concat()).unwrap();
            assert_eq!(
                search(dir.path(), std::slice::from_ref(&canary)).unwrap().len(),
                1,
                "form {index}"
            );
            fs::remove_file(path).unwrap();
        }
        fs::write(dir.path().join("harmless"), "pass word").unwrap();
        assert!(search(dir.path(), std::slice::from_ref(&canary)).unwrap().is_empty());
        fs::write(&allowed, "another").unwrap();
        search(dir.path(), &[canary]).expect_err("it is not where it must be");
    }

    #[test]
    fn a_secret_is_found_inside_of_what_was_encoded_as_a_whole() {
        let secret: Vec<u8> = (100..132).collect();
        let canaries = [Canary::of_bytes("the key", &secret, &[])];
        let finder = Finder::new(&canaries).unwrap();
        for before in 0..7 {
            let whole = [&[9].repeat(before), secret.as_slice(), b"after"].concat();
            for text in [
                BASE64.encode(&whole),
                BASE64URL_NOPAD.encode(&whole),
                HEXLOWER.encode(&whole),
                serde_json::to_string(&whole).unwrap(),
                format!("{whole:?}"),
            ] {
                assert_eq!(finder.in_bytes(text.as_bytes()).len(), 1, "{text}");
            }
        }
    }

    #[test]
    fn a_private_key_is_found_as_pem_and_its_public_half_is_no_secret() {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = key.serialize_der();
        let canaries = [Canary::of_key("the key", &der, &[]).unwrap()];
        let finder = Finder::new(&canaries).unwrap();
        assert_eq!(finder.in_bytes(key.serialize_pem().as_bytes()).len(), 1);
        assert_eq!(finder.in_bytes(&der).len(), 1);
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        assert!(finder.in_bytes(certificate.pem().as_bytes()).is_empty());
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(finder.in_bytes(other.as_bytes()).is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_fails_the_search() {
        // Nobody, not even root, can read this file from its beginning.
        let canary = Canary::new("the password", "a password", &[]);
        search(Path::new("/proc/self/mem"), &[canary]).expect_err("it was passed over");
    }

    #[test]
    fn an_answer_shows_a_secret_only_where_it_must() {
        let answer = |to: &str, text: &str| Answer { to: to.to_owned(), bytes: text.into() };
        let canaries = [Canary::new("the token", "a long token", &[]).shown_by("POST /tokens")];
        let minted = answer("POST /tokens", "{\"token\":\"a long token\"}");
        assert!(search_answers(std::slice::from_ref(&minted), &canaries).unwrap().is_empty());
        let listed = answer("GET /tokens", "[\"a long token\"]");
        assert_eq!(search_answers(&[minted, listed], &canaries).unwrap().len(), 1);
        let other = answer("GET /hosts", "[]");
        search_answers(&[other], &canaries).expect_err("the answer that must show it is missing");
    }
}
