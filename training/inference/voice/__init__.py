"""Share of human voice in the slices of a store, for `sampling.voice_file`.

measure.measure_voice   a store and its recordings -> a table with one line per slice
  silero                Silero VAD, from its wheel
  config
"""
