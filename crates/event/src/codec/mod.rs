//! Wire formats: from record bytes to the vocabulary, and back.
