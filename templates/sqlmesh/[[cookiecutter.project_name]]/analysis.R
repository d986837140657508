# Read what this product publishes, and what others let it read; see INPUTS.md for the names.
source("R/dp.R")

print(dp_inputs())
[% if cookiecutter.product_kind == "exploration" -%]
# print(dp_upstream("sales__orders"))
[%- else -%]
revenue <- dp_port("daily-revenue") # filled by the first `sqlmesh plan`, where it is a port of yours
print(summary(revenue$revenue))
# print(dp_upstream("sales__orders"))
[%- endif %]
