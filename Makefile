PYTHON = python3
VENV = .venv
SEEDS = 0

.PHONY: report sweeps test torture bench clean

report: $(VENV)/ready
	$(VENV)/bin/python reproduce.py --seeds $(SEEDS)

sweeps: $(VENV)/ready
	$(VENV)/bin/python reproduce.py --sweeps --seeds $(SEEDS)

test: $(VENV)/ready $(VENV)/colab/ready
	$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

torture: $(VENV)/ready
	$(VENV)/bin/python -m tests.torture

bench: $(VENV)/bench-ready
	$(VENV)/bin/python -m benchmarks.benchmark

$(VENV)/ready: requirements.txt tests/requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt -r tests/requirements.txt -c constraints.txt
	touch $(VENV)/ready

$(VENV)/bench-ready: $(VENV)/ready benchmarks/requirements.txt
	$(VENV)/bin/python -m pip install --quiet -r benchmarks/requirements.txt -c constraints.txt
	touch $(VENV)/bench-ready

# As in Google Colab, for the tests: its Jupyter packages, and everything else out of the environment above.
$(VENV)/colab/ready: tests/colab.txt $(VENV)/ready
	$(PYTHON) -m venv $(VENV)/colab
	$(VENV)/colab/bin/python -m pip install --quiet --no-deps -r tests/colab.txt
	$(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $(VENV)/colab/others.pth
	cp $(VENV)/colab/others.pth $(VENV)/colab/lib/python*/site-packages
	touch $(VENV)/colab/ready

clean:
	rm -rf $(VENV) runs trial
