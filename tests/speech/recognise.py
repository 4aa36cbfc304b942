#!/usr/bin/env python3
"""Which of a closed list of sentences does each wav say?  By a recogniser that knows nothing of the voice.

recognise.py SENTENCES.txt WAV...   prints one line a wav: the number of the sentence heard (from 0), or -1

Needs pocketsphinx 5.1.1 (it brings its stock US English acoustic model and dictionary).  The
grammar is the list itself, each sentence as a whole: the recogniser has to choose among them.
"""
import sys
import wave

from pocketsphinx import Decoder

# The same for every sentence.  The recogniser's defaults are for a large vocabulary, where it must
# prune to be fast and may say that it heard nothing.  Here the question is which of the sentences fits
# best, and all paths through the grammar are few enough to be followed.
SETTINGS = {
    # Paths less likely than the best one by more than this factor are dropped.  By default 1e-48 and
    # 7e-29: one badly pronounced sound then drops the right sentence for good, and where every sentence
    # has met one, none reaches its end and nothing is heard.
    "beam": 1e-150,
    "pbeam": 1e-150,
    "wbeam": 1e-150,
    # No narrower beams where many paths are alive.
    "maxhmmpf": -1,
    # The best path found is the answer.  A second search through a lattice of words serves language
    # models; within a closed grammar it can only lose the path.
    "bestpath": False,
    # Loudness and channel are normalised over the whole wav, not from the wavs before it: what is heard
    # does not depend on the order.
    "cmn": "batch",
}


def main():
    sentences = [line.strip() for line in open(sys.argv[1]) if line.strip()]
    decoder = Decoder(lm=None, loglevel="FATAL", **SETTINGS)
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
