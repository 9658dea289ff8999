-- SPDX-License-Identifier: MIT
-- The options of nb.run, and of run:fork.
local all = {
  { name = "net", type = "any", optional = true, doc = "the module to train" },
  { name = "loss", type = "any", optional = true,
    doc = "a module or function of output and target; or give step=" },
  { name = "opt", type = "any", optional = true, doc = "the optimizer" },
  { name = "data", type = "any", optional = true,
    doc = "{x, y}, what data.batches gives, or an iterator over batches; the last of a batch is the target" },
  { name = "step", type = "any", optional = true,
    doc = "called with a batch, returns the loss, a tensor of one number; backward and opt:step follow, but not a " ..
      "compiled one, which does them itself" },
  { name = "size", type = "size", default = 32, doc = "samples in a batch, where data is {x, y}" },
  { name = "shuffle", type = "boolean", default = true, doc = "a new order each epoch, where data is {x, y}" },
  { name = "epochs", type = "size", default = 1 },
  { name = "schedule", type = "table", optional = true, doc = "a learning rate schedule, stepped by the run" },
  { name = "schedule_per", choices = { "epoch", "batch" }, default = "epoch", doc = "what a step of the schedule is" },
  { name = "clip", type = "positive or huge", optional = true, doc = "largest norm of all gradients together" },
  { name = "norms", type = "boolean", default = false,
    doc = "keeps the norm of all gradients together, before clip, in history.grad" },
  { name = "seed", type = "integer", optional = true,
    doc = "where its random numbers begin; without it, where nb's stand now" },
  { name = "memory", type = "size", optional = true,
    doc = "bytes for what is kept of the past; a tenth of the machine's, at most 1 GB" },
  { name = "journal", type = "string", optional = true,
    doc = "a .safetensors file that is written while it goes, so that a run that was killed can be resumed" },
  { name = "journal_every", type = "non-negative", default = 60, doc = "seconds between two such keyframes, at least" },
  { name = "resume", type = "string", optional = true,
    doc = "a journal, what run:keep or nn.fit's checkpoint= wrote: where it begins; not yet there, where it is the " ..
      "journal, too, at the start" },
  { name = "name", type = "string", optional = true, doc = "what it is called in pictures" },
}

local of_fork = {
  { name = "opt", type = "table", optional = true, doc = "options of the optimizer that are to be others" },
  { name = "clip", type = "positive or huge", optional = true, doc = "largest norm of all gradients together" },
  { name = "name", type = "string", optional = true, doc = "what it is called in pictures" },
}

return { run = all, fork = of_fork }
