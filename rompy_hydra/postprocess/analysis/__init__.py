"""Numbers from a run's results: how they are read and what is computed; `postprocess.analyze` is the door.

results     the result files of a run
reading     a NetCDF file → its fields, lazily; sww: ANUGA's files likewise
fields      a field: axes, a mesh or not, weights, and its values in blocks of bounded size
summary, series, spectra, compare     what is computed; they know no files
writing     tables and data sets → NetCDF, CSV, Parquet; metrics.json
"""
