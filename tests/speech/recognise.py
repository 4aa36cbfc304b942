#!/usr/bin/env python3
"""Which of a closed list of sentences does each wav say?  By a recogniser that knows nothing of the voice.

recognise.py SENTENCES.txt WAV...   prints one line a wav: the number of the sentence heard (from 0), or -1

Needs pocketsphinx 5.1.1 (it brings its stock US English acoustic model and dictionary).  The
grammar is the list itself, each sentence as a whole: the recogniser has to choose among them or
reject.
"""
import sys
import wave

from pocketsphinx import Decoder


def main():
    sentences = [line.strip() for line in open(sys.argv[1]) if line.strip()]
    decoder = Decoder(lm=None, loglevel="FATAL")
    missing = sorted({w for s in sentences for w in s.split() if decoder.lookup_word(w) is None})
    if missing:
        sys.exit(f"words not in the dictionary: {' '.join(missing)}")
    rules = " | ".join(sentences)
    decoder.add_jsgf_string("closed", f"#JSGF V1.0; grammar closed; public <s> = {rules};")
    decoder.activate_search("closed")
    for path in sys.argv[2:]:
        with wave.open(path) as f:
            assert (f.getframerate(), f.getnchannels(), f.getsampwidth()) == (16000, 1, 2), path
            audio = f.readframes(f.getnframes())
        decoder.start_utt()
        decoder.process_raw(audio, full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp().hypstr if decoder.hyp() else ""
        print(sentences.index(heard) if heard in sentences else -1)


if __name__ == "__main__":
    main()
