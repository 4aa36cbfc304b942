#!/usr/bin/env python3
"""Makes the reference data of ../reference.rs from voice/synthesize.py (NumPy only).

    cd recorder/tests/data && python3 make.py

codes.json: the text and all rows of codes, greedy.  logits.f32: the audio logits, before any mask, of
every fourth row, [rows / 4, 4 * 514].  waveform.f32: the codec's samples before the 16-bit cast.
"""
import json
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
voice = os.path.join(here, "..", "..", "voice")
sys.path.insert(0, voice)
import synthesize as S

TEXT = "good night, see you tomorrow."
talker, codec = S.Talker(voice), S.Codec(voice)
kept = []
forward = talker.forward
def keeping(x):
    h = forward(x)
    kept.append(talker.fused @ h)
    return h
talker.forward = keeping
codes, info = talker.generate(TEXT)
assert info["stopped"]
# Rows with the delay and the end put back: what the talker was fed.
n, t = talker.n, len(codes)
rows = []
for r in range(t + n - 1):
    rows.append([int(codes[r - k, k]) if 0 <= r - k < t else (talker.boc if r < k else talker.eoc) for k in range(n)])
json.dump({"text": TEXT, "rows": rows}, open(os.path.join(here, "codes.json"), "w"))
np.stack(kept[:len(rows)])[::4].astype("<f4").tofile(os.path.join(here, "logits.f32"))
codec.decode(codes).astype("<f4").tofile(os.path.join(here, "waveform.f32"))
print(len(rows), "rows")
