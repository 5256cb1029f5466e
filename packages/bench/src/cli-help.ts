/** @file What `--help` prints. */

export const overview = `Usage: pnpm bench <command> [options]

Compares early-exit methods for language models: trains them, lets them exit early, and says what that saves and costs.

Commands:
  glue         train and compare methods on GLUE-like tasks; ends with a table, a report and results.json
  paper        all tables and figures of the ConsistentEE paper on classification, in one run
  decode       time generated tokens at forced exit depths, and what each exit test costs
  generation   fine-tune a decoder, let its tokens leave early, and compare what that saves and costs
  engine       time compiled training and inference against TensorFlow.js and PyTorch
  pretraining  time a pre-training step against PyTorch, and say where its time goes
  speed        what exits save in time, against truncated models, full depth, Transformers.js and PyTorch
  report       make the report, tables and pictures of an earlier run again, without training
  replay       count the (strategy, knob value) points per second that a record is replayed at

Start here:
  pnpm bench glue                                        small generated tasks: minutes, no download
  pnpm bench glue --data ../glue --tasks rte,sst-2       official GLUE files
  pnpm bench glue --help                                 every option

Results go to standard output, everything else to standard error: on a terminal a line that shows progress, in a pipe only
what is said at the start and of each finished part. --json prints one JSON object in place of tables. Ctrl-C stops after
the step in progress, with exit code 130.

CEE_DEBUG=1 prints where an error comes from. CEE_CACHE names the folder that downloads and optimised
graphs are kept in; CEE_GRAPH_CACHE=off keeps no graphs.
`;

export const glueHelp = `Usage: pnpm bench glue [options]

Trains every method on every task, chooses operating points, measures time, and prints a table shaped like Table 3 of
the ConsistentEE paper. The table, report.html and results.json are left in the output folder, and the table as LaTeX, the
points as CSV and the curves as SVG and PNG beside them.

What to run on:
  --data <folder|hub>      official GLUE files (RTE/train.tsv, …), or the Hugging Face hub
                           (default: small generated tasks)
  --tasks <a,b>            GLUE: rte, mrpc, sst-2, qnli, qqp, mnli, sts-b (default: all that the folder has)
                           generated: sentiment, paraphrase, entail, answer, nli3, similarity
                           (default: sentiment, paraphrase, nli3, similarity)
  --limit <n>              training rows per task, drawn at random (default: all)
  --dev-limit <n>          rows of the development set (default: all)
  --max-length <n>         tokens per row (default: 64 for generated tasks, else 128)
  --hub-url <url>          a mirror of the hub

What to compare:
  --methods <a,b>          full, entropy, patience, consistentee, consistentee-vanilla (the default), and others that
                           train more: deebert, pabee, berxit, right-tool, pcee-bert, romebert, fastbert, past-future, cat,
                           ztw, hashee, tr-bert, cascade, truncated, random, oracle; or all, which is the default under
                           --preset paper. Full depth is always among them, being what the others are measured against
  --strategy <s>           adds a strategy of yours: a file such as ./margin.ts or a package whose default export comes
                           from defineExitStrategy (and whose export \`head\`, if it has one, is its exit head); may be
                           repeated. TypeScript is fine. Nothing is run that is not named; each is first tried in a
                           process of its own against the checks that figures rest on, each of which may
                           take CEE_PLUGIN_SECONDS (default: 60)
  --strategy-options <j>   options by strategy, as JSON: '{"margin": {"margin": 0.4}}'
  --head <h>               the exit head of methods that bring none: linear, highway, or a file or package whose default
                           export (or export \`head\`) comes from defineExitHead (default: linear)
  --backbone <spec>        mini, the small pre-trained encoder that comes along; fresh:<layers>x<width>; a folder; or a hub
                           id such as google-bert/bert-base-uncased. fresh:mini and fresh:<folder> are the same
                           architecture and tokenizer with fresh weights
                           (default: fresh:12x64 for generated tasks, of bench paper
                           fresh:6x64, else mini)

How to train:
  --preset <small|paper>   hyper-parameters: tuned for small fresh encoders, or the published ones (default: small)
  --epochs <n>             of the training on all exits, instead of the preset's
  --rate <x>               multiplies the small preset's learning rates (default: 0.4 for mini, else 1)
  --seeds <a,b>            everything once per seed; the table prints means (default: 42); --seed <n> is the same
  --threads <n>            of each worker (default: the processors, shared among the workers)
  --workers <n>            tasks and seeds that run side by side, a process each; while one takes times, the others stand
                           still (default: a worker per processor for generated tasks, else 1)
  --runtime <name>         auto, onnxruntime-node, onnxruntime-web or eager (default: auto)

Where it goes:
  --out <folder>           (default: runs/<name>); a run that is there is moved aside, never deleted
  --name <name>            runs/<name> (default: embedded, glue or glue-hub)
  --cells <folder>         keeps every finished cell (a method on a task with a seed) as a small file there as well, and takes
                           cells that are there and made from the same data and options as done, in any run
  --split <dev|test>       test also answers the unlabelled test rows at each method's operating points, by running the models for
                           real, into submissions/<method>/<point>/seed-<n>/<TASK>.tsv as the GLUE server takes them (default: dev)
  --resume                 goes on with the run in that folder: finished cells and trainings are not repeated
  --dry-run                lists every training with its predicted time, and stops
  --texts                  the report quotes the texts of the rows that it shows one by one, of your data too; without it
                           only generated rows are quoted
  --json                   prints what results.json holds as one JSON object, in place of the table

Ctrl-C stops after the step in progress, with a checkpoint; --resume goes on. Exit codes: 0 all cells finished, 1 something
failed (the other cells are finished and say so), 2 the command line was wrong, 130 stopped.

Examples:
  pnpm bench glue --tasks sentiment --methods full,entropy --seeds 1,2,3
  pnpm bench glue --data ../glue --tasks sst-2,rte --limit 10000 --dry-run
  pnpm bench glue --data hub --tasks rte --backbone google-bert/bert-base-uncased --preset paper
  pnpm bench glue --strategy ./margin.ts
  pnpm bench glue --strategy margin --head ./my-head.ts   the package exit-strategy-margin, on heads of yours
`;

export const pretrainingHelp = `Usage: pnpm bench pretraining [options]

Times one step of masked language modelling with a loss at several exits, compiled and in PyTorch where it is installed,
taking turns within one run; then profiles a few steps and prints each kind of kernel's share of the time.

  --depth <n>         (default: 12)            --batch <n>        rows of a batch (default: 64)
  --width <n>         (default: 128)           --length <n>       tokens per row (default: 64)
  --heads <n>         (default: 4)             --vocabulary <n>   (default: 8000)
  --exits <n>         that score each masked place besides the last (default: 2)
  --rounds <n>        (default: 9)             --threads <n>      (default: all processors)
  --no-torch          leaves PyTorch out
  --check             exit code 1 when the project's bar is not met
  --json              prints the numbers as one JSON object
`;

export const engineHelp = `Usage: pnpm bench engine [options]

Times a 12-layer BERT with an exit after every layer, forward and one training step: compiled, on TensorFlow.js (wasm)
and in PyTorch where it is installed, taking turns within one run.

  --widths <a,b>      (default: 128,384)       --batch <n>        (default: 32)
  --depth <n>         (default: 12)            --length <n>       tokens per row (default: 64)
  --heads <n>         (default: width / 64)    --vocabulary <n>   (default: 30522)
  --dropout <p>       (default: 0.1)           --threads <n>      (default: all processors)
  --rounds <n>        (default: 9)             --wasm-rounds <n>  0 leaves wasm out (default: 3)
  --no-torch          leaves PyTorch out
  --check             exit code 1 when one of the project's bars is not met
  --json              prints the numbers as one JSON object
`;

export const speedHelp = `Usage: pnpm bench speed [options]

Times early exit where it runs: exits inside one graph, the exported file and the layer loop, against models that end at the
exit, full depth without exits, @huggingface/transformers and PyTorch where they are installed. All have the same weights,
exits and inputs, and answer alike before they are timed; they take turns in rounds of one run, and figures carry 95 %
intervals of a paired bootstrap over rounds. Leaves tables, a report with charts, and every round's time in speed.json.

What to measure:
  --parts <a,b>       depths      batch 1, every exit forced in turn        mixed    batches of forced, mixed exits
                      decide      the decisions' share of a run             full     full depth, token ids to logits
                      throughput  sentences to answers, 32 at a time        memory   after many calls
                      trained     latency under a trained strategy: one request after the other, and Poisson arrivals at
                                  50, 70 and 90 % of full depth's capacity           (default: all)
  --widths <a,b>      (default: 128,384,768)       --depth <n>       (default: 12)
  --batches <a,b>     (default: 1,4,16,32)         --length <n>      tokens per row (default: 64)
  --vocabulary <n>    (default: 30522)             --rounds <n>      (default: 30)
  --data <folder>     official GLUE files: sentences of SST-2 in place of generated ones
  --backbone <spec>   of the trained strategy, as for bench glue (default: fresh:12x128)
  --limit <n>         its training rows (default: all)
  --requests <n>      (default: 400)               --calls <a,b>     of the memory part (default: 10000,100000)
  --no-torch          leaves PyTorch out           --no-transformers leaves Transformers.js out
  --threads <n>       (default: all processors)    --runtime <name>  onnxruntime-node or onnxruntime-web
  --seed <n>          (default: 42)                --out <folder>    (default: runs/speed)
  --resume            goes on with the run in that folder: finished parts (one width each) are not measured again
  --check             exit code 1 when one of the project's bars is not met
  --json              prints what speed.json holds as one JSON object, in place of the tables

A run that is there is moved aside, never deleted. Ctrl-C stops after the step in progress, and --resume goes on.
On a machine that does other things as well, read the ratios, not the milliseconds.

Examples:
  pnpm bench speed --widths 384 --parts depths,mixed
  pnpm bench speed --data ../glue --limit 8000 --check
`;

export const reportHelp = `Usage: pnpm bench report <folder>

Makes what a run leaves for reading again, from its results.json (and paper.json, where bench paper wrote one), without
training anything: report.html, table.md, table.tex (booktabs), points.csv, and curves/ with one SVG and one PNG per task
and axis. PNGs use the fonts of this machine; without any, only the SVGs are made, and a line says so.

  --json   prints the folder and what was written there as one JSON object, in place of the table

Examples:
  pnpm bench report runs/embedded
`;

export const replayHelp = `Usage: pnpm bench replay [options]

Makes a record of the size of SST-2's development set and replays strategies on it at knob values whose mean exits spread
over the layers: through each strategy's own decide, and, for rules without state, by the sorted path of replaySweep.
Prints points per second on one thread, their ratio, and whether both paths agree.

  --rows <n>            (default: 872)     --layers <n>         (default: 12)
  --values <n>          knob values per strategy (default: 100)
  --rounds <n>          (default: 5)       --milliseconds <n>   least time of a round (default: 300)
  --seed <n>            of the record (default: 42)
  --check               exit code 1 when one of the project's bars is not met
  --json                prints the numbers as one JSON object

Example, on one core:
  taskset -c 0 pnpm bench replay --check
`;

export const paperHelp = `Usage: pnpm bench paper [options]

Makes what the ConsistentEE paper reports on classification, in one run into one folder: Table 3 (as bench glue does), Table 1
(hardness: memorized layer against loss and forgetting events), Table 2 (the data as loaded), and the numbers of Figure 2 (loss
and accuracy per layer), Figure 3 (score against saved layers) and Figure 4 (vanilla against hardness-guided reward). Leaves
paper.md, paper.json and the files of bench glue.

Takes the options of bench glue (pnpm bench glue --help); without --tasks, all of them. --json prints {"results", "paper"}, what
results.json and paper.json hold. Evaluating the training rows ten times
during the first training adds about three epochs to it. Progress shows the time left; --resume goes on after a stop.

Examples:
  pnpm bench paper                                                 six generated tasks
  pnpm bench paper --data ../glue --tasks rte,mrpc,sst-2 --out runs/paper-real
  pnpm bench paper --preset paper --backbone google-bert/bert-base-uncased --data hub --dry-run
`;

export const generationHelp = `Usage: pnpm bench generation [options]

Fine-tunes a decoder with an exit after every layer on instructions, decodes prompts at every point of each method's
curve, and compares the texts by ROUGE and BERTScore with what full depth writes or with gold summaries. The table,
report.html (curves, responses side by side) and results.json are left in the output folder.

What to run on:
  --data <folder>          alpaca/alpaca_data.json, dolly/databricks-dolly-15k.jsonl and cnn_dailymail/validation.jsonl
                           (default: small generated instructions and articles)
  --tasks <a,b>            dolly, cnn; generated: instructions, articles (default: both)
  --limit <n>              instructions to learn, drawn at random (default: all)
  --prompts <n>            prompts to decode, of each task (default: 32 generated ones, else 64)
  --max-length <n>         tokens per training text (default: 320, or the model's positions)
  --max-new-tokens <n>     of each response (default: a quarter of the positions, at most 64)

What to compare:
  --methods <a,b>          full, calm, calm-state, consistentee (the default), calm-meta, free (its rule on the
                           training that all share), self-speculative; or all
  --key-values <k>         what skipped layers get: copy, recompute or verify (default: copy)
  --backbone <spec>        fresh:<layers>x<width>, a LLaMA model's folder, or a llama2.c file;
                           llama-7b and llama-13b are sizes for --dry-run (default: fresh:6x64, with --data fresh:6x128)
  --heads <h>              per-layer or shared (default: per-layer)
  --encoder <folder>       whose states BERTScore compares (default: a small encoder, pre-trained on the training texts)

How to train:
  --preset <small|paper>   hyper-parameters: for small decoders, or the released ones for LLaMA (default: small)
  --lora                   train adapters in place of the whole backbone; always with --preset paper
  --loss-on <r>            response, or all as the released code does (default: by preset)
  --epochs <n>             of the training on all exits, instead of the preset's
  --seed <n>               (default: 42)

How to run:
  --out <folder>           (default: runs/generation, with --data runs/generation-files)
  --resume                 go on with the run in that folder
  --dry-run                say what the run would take
  --json                   prints what results.json holds as one JSON object, in place of the table
  --threads <n>            of the runtime
`;

export const decodeHelp = `Usage: pnpm bench decode [options]

Times a fresh decoder at batch 1, token by token: full depth against Transformers.js on the same weights, forced exit depths
against what the layers that were run, the head and the filled keys and values predict, and each exit test as a share of a
layer, taking turns within one run.

  --width <n>         (default: 384)           --prompt <n>       tokens of the prompt (default: 32)
  --depth <n>         (default: 12)            --tokens <n>       generated in each round (default: 48)
  --vocabulary <n>    (default: 8000)          --rounds <n>       (default: 7)
  --threads <n>       (default: 1)             --no-transformers  leave the comparison out
  --check             exit code 1 when a bar is not met
  --json              prints the numbers as one JSON object
`;
