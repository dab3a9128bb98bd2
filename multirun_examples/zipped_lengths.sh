rompy-hydra run -m model=veros_acc model.parameters.run_length=5d,10d model.parameters.averages_interval=1d,5d sweep.zip=[model.parameters.run_length,model.parameters.averages_interval] model.parameters.wind_stress=0.1,0.2
# small form: model.parameters.run_length=1d,2d model.parameters.wind_stress=0.1
#
# Keys that vary together: a longer run writes its averages less often.  Zipped keys are one axis; the wind is another, so
# these are four runs and not eight.
