# Read what lies in S3: dp_sql("SELECT ..."), dp_upstream("sales__orders"), dp_port("daily-revenue").
# Needs no package: the queries are run by the command `duckdb`. Keys are read anew for each
# query, so that a session goes on when they are renewed.

dp_sql <- function(query) {
  if (file.exists(".env")) readRenviron(".env")
  setup <- c(dp_secret(), vapply(dp_names(query), dp_view, ""))
  dp_duckdb(c(setup, paste0(query, "\n;")))
}

# What an input holds; its name is in INPUTS.md.
dp_upstream <- function(name) {
  if (!grepl("^[a-z0-9_]+$", name)) stop("not the name of an input: see INPUTS.md", call. = FALSE)
  dp_sql(paste0("SELECT * FROM upstream.", name))
}

# What an output port of this product holds.
dp_port <- function(port) {
  if (file.exists(".env")) readRenviron(".env")
  url <- paste0("s3://", Sys.getenv("S3_BUCKET"), "/", Sys.getenv("S3_PREFIX"), port, "/data.parquet")
  tryCatch(
    dp_sql(paste0("SELECT * FROM read_parquet(", dp_quote(url), ")")),
    error = function(error) {
      if (!grepl("HTTP 404|404 \\(Not Found\\)|No files found", conditionMessage(error))) stop(error)
      model <- paste0("gold.", gsub("[^a-z0-9_]", "_", port))
      stop(
        "there is nothing in ", url, " yet. Where ", port, " is an output port of this product, ",
        "`sqlmesh plan` fills it from the model ", model, ".", call. = FALSE
      )
    }
  )
}

# The inputs that were granted, a row each.
dp_inputs <- function() {
  if (file.exists(".env")) readRenviron(".env")
  file <- dp_quote(file.path(Sys.getenv("WORKSPACE_DIR", "."), "ports.json"))
  columns <- "STRUCT(name VARCHAR, producer VARCHAR, port VARCHAR, url VARCHAR, valid_until VARCHAR)"
  columns <- paste0("{inputs: '", columns, "[]'}")
  dp_duckdb(paste0(
    "SELECT UNNEST(inputs, recursive := true) FROM read_json(", file, ", columns = ", columns, ");"
  ))
}

dp_quote <- function(text) paste0("'", gsub("'", "''", text, fixed = TRUE), "'")

# The inputs that a query names, not counting its texts and comments.
dp_names <- function(query) {
  told <- "(?s)(\"[^\"]*\")|'[^']*'|--[^\n]*|/\\*.*?\\*/"
  query <- gsub(told, "\\1", paste(query, collapse = "\n"), perl = TRUE)
  table <- "(?i)(?<![a-z0-9_.])\"?upstream\"?\\s*\\.\\s*\"?[a-z0-9_]+"
  found <- unlist(regmatches(query, gregexpr(table, query, perl = TRUE)))
  unique(tolower(sub(".*[.]\\s*\"?", "", found)))
}

dp_view <- function(name) {
  inputs <- dp_inputs()
  url <- inputs$url[inputs$name == name]
  if (length(url) != 1) {
    stop(
      "upstream.", name, " is no input of this product: access was never approved, was revoked ",
      "or has ended. INPUTS.md says what may be read.", call. = FALSE
    )
  }
  paste0(
    "CREATE SCHEMA IF NOT EXISTS upstream; CREATE VIEW upstream.\"", name, "\" AS SELECT * FROM ",
    "read_parquet(", dp_quote(paste0(url, "*.parquet")), ", hive_partitioning = false);"
  )
}

dp_secret <- function() {
  endpoint <- Sys.getenv("S3_ENDPOINT", "http://missing-in-dotenv.invalid")
  paste0(
    "CREATE SECRET (TYPE s3, PROVIDER credential_chain, CHAIN 'config', VALIDATION none, ",
    "PROFILE ", dp_quote(Sys.getenv("AWS_PROFILE", "workspace")),
    ", ENDPOINT ", dp_quote(sub("/+$", "", sub("^https?://", "", endpoint))),
    ", USE_SSL ", if (startsWith(endpoint, "https://")) "true" else "false",
    ", REGION ", dp_quote(Sys.getenv("S3_REGION", "us-east-1")), ", URL_STYLE 'path');"
  )
}

# Run statements, the last of which is a query, and return its rows.
dp_duckdb <- function(statements) {
  files <- tempfile(c("query", "rows", "errors"))
  on.exit(unlink(files))
  folder <- Sys.getenv("DUCKDB_EXTENSION_DIRECTORY", "/opt/duckdb/extensions")
  last <- length(statements)
  writeLines(c(
    paste0("SET extension_directory = ", dp_quote(folder), ";"),
    ".output /dev/null", statements[-last], ".output", statements[last]
  ), files[1], useBytes = TRUE)
  # R's own library path would send a Python tool to the wrong libraries.
  status <- system2(
    "env", c(
      "-u", "LD_LIBRARY_PATH", "duckdb", "-init", "/dev/null", "-batch", "-bail",
      "-csv", "-nullvalue", shQuote("\\N")
    ),
    stdin = files[1], stdout = files[2], stderr = files[3]
  )
  if (status != 0) {
    message <- iconv(readLines(files[3], warn = FALSE), to = "UTF-8", sub = "?")
    message <- gsub("\033.[0-9;]*m", "", message)
    message <- grep("^\\s*$|^\\s*\u2502|^\u250c|^\u2514|^\u251c", message, invert = TRUE, value = TRUE)
    stop(paste(message, collapse = "\n"), call. = FALSE)
  }
  if (file.size(files[2]) == 0) return(data.frame())
  read.csv(files[2], check.names = FALSE, na.strings = "\\N", encoding = "UTF-8")
}
