#!/bin/sh
# The whole pipeline on one machine, every command shown as it is run.  DEMO_SIZE=small is what CI runs.
set -eu

here=.demo
backbone=tests/bench/study/bases/judging
case "${DEMO_SIZE:-full}" in
    full)  rollouts=4000; benchmark=400 ;;
    small) rollouts=2000; benchmark=200 ;;
    *)     echo "demo: expected DEMO_SIZE to be full or small; found $DEMO_SIZE; leave it out" >&2; exit 2 ;;
esac

stage=1  # the first one is the installation, in the Makefile
begin() { stage=$((stage + 1)); start=$(date +%s); printf '\n[%d/7] %s\n' "$stage" "$*"; }
end() { echo "[$stage/7] done in $(($(date +%s) - start)) s"; }
show() { printf '$ %s\n' "$*" | fold -s -w 94 | sed -e '$!s/ *$/ \\/' -e '2,$s/^/    /'; }
run() { show "$@"; "$@"; }

rm -rf "$here"
begin "make a corpus: questions about digits, and solutions with Monte-Carlo scores"
run bisieve corpus --output $here/corpus --rollouts $rollouts --benchmark $benchmark \
    --mistake-rate 0.05 --early-stop
end
begin "score and rank the rollouts"
run bisieve score --input $here/corpus/annotations --index $here/index
run bisieve report --index $here/index --html $here/report.html --image-root $here/corpus
end
if sh infra/require.sh java 2>/dev/null; then
    begin "score them again with Spark; compare every byte"
    # Spark alone would log some 150 lines.
    export SPARK_SUBMIT_OPTS="-Dlog4j2.configurationFile=file:$PWD/lib/bisieve/spark/log4j2.properties"
    set -- spark-submit jobs/score_rollouts.py --input $here/corpus/annotations --index $here/index-of-spark
    show "$@"
    sh infra/stage.sh $here/spark.log "Spark (about half a minute)" "$@"
    run python infra/demo/same_index.py $here/index $here/index-of-spark
    end
else
    stage=$((stage + 1))
    printf '\n[%d/7] left out: Spark needs Java 17 or newer; everything else runs without\n' "$stage"
fi
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
[ "$gpus" -gt 0 ] && workers=$gpus || workers=2
train() {
    run bisieve train --config infra/demo/train.toml --workers "$workers" --index $here/index \
        --fraction 0.25 --image-root $here/corpus --backbone $backbone "$@"
}
evaluate() {
    run bisieve evaluate --workers "$workers" --image-root $here/corpus \
        --benchmark $here/corpus/benchmark.jsonl "$@"
}
begin "train a small model on the best 25 % by BIS"
train --output $here/models/best
end
begin "train it on a random 25 %"
train --strategy random --output $here/models/random
end
begin "evaluate both, and the model before training; compare them"
evaluate --model $backbone --output $here/metrics/untrained
evaluate --model $here/models/random --output $here/metrics/random
evaluate --model $here/models/best --output $here/metrics/best
run bisieve compare --metrics $here/metrics/best --other $here/metrics/random $here/metrics/untrained
end
echo
python infra/demo/summary.py $here
